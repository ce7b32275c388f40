"""The original model as it is, the row that every other row starts from."""

from __future__ import annotations

from dataclasses import dataclass

from ltu_jax.types import DataSpec, Invariants, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Config, Method, one_shot


@dataclass(frozen=True)
class NothingConfig(Config):
    """No options."""


def nothing(model: Model, spec: DataSpec, config: NothingConfig = NothingConfig()) -> Unlearner:
    r"""Build the method that returns the original to the bit.

    .. math:: \theta \leftarrow \theta

    Returns:
      The unlearner, which takes no step.

    Example:
      >>> import jax
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = nothing(model, spec)
      >>> unlearned, _ = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool((unlearned.params["kernel"] == variables.params["kernel"]).all())
      True

    References:
      None: the least that forgetting is compared with.
    """
    del model, spec, config

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> Variables:
        del key, data
        return variables

    return one_shot(prepare, Invariants(changes=False, preserves_model_state=True))


METHOD = Method(
    name="nothing",
    summary="leave the original as it is",
    reference="the baseline without forgetting",
    build=nothing,
    config=NothingConfig(),
)
