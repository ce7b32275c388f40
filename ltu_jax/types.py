"""Types that all rooms share: named tuples and protocols, no logic.

Shapes use `N` for examples, `B` for a batch, `C` for classes and `[N, ...]` for inputs of any
trailing shape (`[N, H, W, C]` for images, `[N, F]` for tables).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array | np.ndarray
Key = jax.Array
PyTree = Any
Info = Mapping[str, jax.Array]


class Variables(NamedTuple):
    """The arrays of a model.

    Attributes:
      params: trainable parameters.
      state: model state that is not trained (BatchNorm statistics); an empty dict if none.
    """

    params: PyTree
    state: PyTree


class Apply(Protocol):
    """The forward pass of a `Model`."""

    def __call__(
        self, variables: Variables, inputs: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[jax.Array, PyTree]:
        """Return `(logits [B, C], new model state)`.

        With `train=False` the pass is deterministic, normalises with the stored statistics and
        returns `variables.state` unchanged. With `train=True` dropout and augmentation draw from
        `key`, BatchNorm normalises with the batch and the returned state holds the new statistics.
        """
        ...


class Model(NamedTuple):
    """A model as a pair of pure functions.

    Attributes:
      init: `(key, inputs [B, ...]) -> Variables` with random initial weights.
      apply: see `Apply`.
      name: in settings and reports.
    """

    init: Callable[[Key, Array], Variables]
    apply: Apply
    name: str


class Examples(NamedTuple):
    """Inputs with their labels.

    Attributes:
      inputs: `[N, ...]`, uint8 images, float32 features or int32 tokens; training inputs may stay
        on disk (`data.on_disk.OnDisk`).
      labels: int32 `[N]`.
    """

    inputs: Array
    labels: Array


class Triggered(NamedTuple):
    """Test inputs with the trigger of a backdoor, for the report only.

    Attributes:
      inputs: `[T, ...]`, of the training inputs' shape and dtype, none of them of class `target`.
      target: index of the backdoor's target class.
    """

    inputs: Array
    target: int


class Dataset(NamedTuple):
    """A training set, a held-out set that no model trains on, and their metadata.

    Attributes:
      name: in settings and reports.
      train: exact training set, host arrays.
      heldout: examples never trained on; `request.split` divides them into validation and test.
      train_ids: `[N]` strings, the ids of `train` (row indices if the data set has no ids).
      class_names: one per class.
      groups: named columns of `[N]` values of `train`, by which a request may select examples.
      mean: per-channel (or scalar) constant subtracted from inputs; uint8 is divided by 255 first.
        None: 0 for a model that the user trained, else 0.5.
      std: per-channel (or scalar) constant that divides after `mean` is subtracted. None: 1 for a
        model that the user trained, else 0.25.
      augment: whether cropped or mirrored examples keep their class.
      triggered: test inputs with a known backdoor's trigger.
    """

    name: str
    train: Examples
    heldout: Examples
    train_ids: np.ndarray
    class_names: tuple[str, ...]
    groups: Mapping[str, np.ndarray]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    augment: bool = False
    triggered: Triggered | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self._facts().items())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
            for name, value in self._facts().items()
        )
        return f"<table><tbody>{rows}</tbody></table>"

    def _facts(self) -> dict[str, str]:
        """Return what the data set holds, without its examples, ids and values of columns."""
        inputs, columns = self.train.inputs, ", ".join(self.groups)
        return {
            "Dataset": self.name,
            "training examples": f"{len(self.train.labels):,}",
            "held-out examples": f"{len(self.heldout.labels):,}",
            "one input": f"{inputs.dtype} {list(inputs.shape[1:])}",
            "classes": f"{self.num_classes:,}",
            "group columns": columns or "none",
        }


class Split(NamedTuple):
    """Sorted index sets, disjoint except that `accessible` is a part of `retain`.

    Attributes:
      forget: into the training set, the examples to unlearn.
      retain: into the training set, all others.
      accessible: into the training set, the share of `retain` that methods see.
      validation: into the held-out set, non-members that methods and selection see.
      test: into the held-out set, for the report only.
    """

    forget: np.ndarray
    retain: np.ndarray
    accessible: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Problem(NamedTuple):
    """A deletion as audit and report see it.

    Attributes:
      dataset: the training set and the held-out set.
      split: index sets of the deletion.
      model: pure functions of all compared models.
      seed: of all random numbers of the audit.
    """

    dataset: Dataset
    split: Split
    model: Model
    seed: int


class TrainedModel(NamedTuple):
    """The variables of a model and the time of its training.

    Attributes:
      variables: parameters and model state.
      seconds: wall time, compilation included; NaN for a model that the user passed.
      compile_seconds: the part of it in which JAX compiled; NaN if unknown.
    """

    variables: Variables
    seconds: float
    compile_seconds: float = float("nan")


class DataSpec(NamedTuple):
    """Sizes, shapes and types of `UnlearnData`; all that a method needs before it sees data.

    Attributes:
      num_forget: number of forget examples.
      num_retain: number of accessible retain examples.
      num_validation: number of validation examples.
      num_classes: number of classes C.
      inputs: shape and dtype of one batch of a single example, `[1, ...]`.
    """

    num_forget: int
    num_retain: int
    num_validation: int
    num_classes: int
    inputs: jax.ShapeDtypeStruct


class UnlearnData(NamedTuple):
    """The data that an unlearner sees, on the device.

    Attributes:
      forget: the examples to unlearn.
      retain: the accessible part of the retain set.
      validation: examples that no model trains on.
    """

    forget: Examples
    retain: Examples
    validation: Examples


class Invariants(NamedTuple):
    """Properties that a method guarantees for every result; `training.loop.unlearn` checks them.

    Attributes:
      changes: the parameters differ from the original's.
      reinitialised: all weights start from new random values: before the first step no parameter
        array with more than one value equals the original's.
      restarts: some or all weights start from new random values.
      preserves_model_state: the model state (BatchNorm statistics) equals the original's bit by
        bit.
      uses_validation: the method reads `UnlearnData.validation`.
      trainable_mask: `state -> pytree like params`; a weight where it is False stays the
        original's bit by bit. None: every weight may change.
    """

    changes: bool = True
    reinitialised: bool = False
    restarts: bool = False
    preserves_model_state: bool = False
    uses_validation: bool = False
    trainable_mask: Callable[[PyTree], PyTree] | None = None


class Unlearner(NamedTuple):
    """A method as four pure functions, a number of steps and its invariants.

    Attributes:
      prepare: `(key, variables, data) -> state`, called once: masks, importances, membership
        models; may pass over the data. `state` is any pytree.
      sample: `(key, t, state, data) -> batch`, the batch of step `t`; any pytree.
      step: `(key, state, batch) -> (state, info)`, pure and jitted; `info` maps names to scalar
        diagnostics.
      finish: `state -> Variables`.
      num_steps: number of calls of `step`; 0 for a method without steps.
      invariants: see `Invariants`.
    """

    prepare: Callable[[Key, Variables, UnlearnData], PyTree]
    sample: Callable[[Key, jax.Array, PyTree, UnlearnData], PyTree]
    step: Callable[[Key, PyTree, PyTree], tuple[PyTree, Info]]
    finish: Callable[[PyTree], Variables]
    num_steps: int
    invariants: Invariants = Invariants()
