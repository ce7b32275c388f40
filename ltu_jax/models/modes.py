"""Mode flags: arguments and attributes that switch a module between training and evaluation."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

from ltu_jax.errors import InputError

_ON_IN_TRAINING = ("train", "training", "train_mode", "training_mode", "is_train", "is_training")
_OFF_IN_TRAINING = (
    "deterministic",
    "use_running_average",
    "inference",
    "inference_mode",
    "is_inference",
    "eval",
    "evaluate",
    "eval_mode",
    "is_eval",
    "test",
    "is_test",
)
VALUE_IN_TRAINING = dict.fromkeys(_ON_IN_TRAINING, True) | dict.fromkeys(_OFF_IN_TRAINING, False)


def call_flags(call: Callable, name: str, others: Collection[str] = ()) -> set[str]:
    """Return the mode flags, and the `others`, that a function takes in addition to its inputs.

    Args:
      call: the `__call__` of a module, or a function whose first argument holds the inputs.
      name: of the model, for errors.
      others: further names that the caller can pass.

    Raises:
      InputError: it takes no inputs, or needs an argument that is not known.

    Example:
      >>> call_flags(lambda x, *, is_train=False, scale=1.0: x, name="net")
      {'is_train'}
    """
    parameters = [*inspect.signature(call).parameters.values()]
    if not parameters:
        raise InputError("model", f"{name} takes no inputs", "let it take the inputs first")
    known = (*VALUE_IN_TRAINING, *others)
    named = [p for p in parameters[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    unknown = [p.name for p in named if p.name not in known and p.default is p.empty]
    if unknown:
        remedy = f"let it need only its inputs and one of {', '.join(known)}"
        raise InputError("model", f"{name} needs {', '.join(unknown)}", remedy)
    return {p.name for p in named if p.name in known}


def attribute_flags(module: Any) -> set[str]:
    """Return the mode flags that are attributes of a module with a truth value.

    Example:
      >>> from types import SimpleNamespace
      >>> attribute_flags(SimpleNamespace(training=True, deterministic=None))
      {'training'}
    """
    return {flag for flag in VALUE_IN_TRAINING if isinstance(getattr(module, flag, None), bool)}


def mode(flags: Collection[str], train: bool) -> dict[str, Any]:
    """Return the value of each mode flag for a training or evaluation pass.

    Example:
      >>> mode({"inference"}, train=True)
      {'inference': False}
    """
    return {flag: value is train for flag, value in VALUE_IN_TRAINING.items() if flag in flags}


def arguments_of(build: Callable) -> dict[str, inspect.Parameter]:
    """Return the arguments of a function, a class or a `functools.partial` of one, by name."""
    while isinstance(build, functools.partial):
        build = build.func
    # The signature of a Flax class itself is that of its metaclass.
    of_class = inspect.isclass(build)
    arguments = inspect.signature(build.__init__ if of_class else build).parameters
    return dict([*arguments.items()][1:] if of_class else arguments)
