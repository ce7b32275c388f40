"""Boundary expand: train the forget set into an extra class, then remove the class.

A model is a pair of pure functions and cannot be widened. But each column of its last layer makes
one logit: the extra class's logit is what class 0 gets when the extra column replaces column 0. So
the forward pass is mapped over two columns by `vmap`; all layers but the last do not depend on them
and are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.errors import InputError
from ltu_jax.models.layers import Head, head
from ltu_jax.training.compilation import jit
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    Array,
    DataSpec,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.boundary_shrink import BoundaryConfig
from ltu_jax.unlearners.gradient_method import SGD_NUMBERS, State, gradient_method
from ltu_jax.unlearners.sampling import Epochs, take


@dataclass(frozen=True)
class BoundaryExpandConfig(BoundaryConfig):
    """Options of boundary expand, see `BoundaryConfig`."""


class Column(NamedTuple):
    """The extra class's part of the output layer: kernel `[d]` and bias `[]`."""

    kernel: jax.Array
    bias: jax.Array


class Widened(NamedTuple):
    """Parameters of the model and the extra class's column, trained together."""

    params: PyTree
    extra: Column


def boundary_expand(
    model: Model,
    spec: DataSpec,
    config: BoundaryExpandConfig = BoundaryExpandConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build boundary expand; an epoch is a pass over the forget set.

    .. math:: L(\theta, w) = CE\big([f_\theta(x_f), f_w(x_f)],\, C + 1\big)

    with the extra class's logit :math:`f_w`; its column :math:`w` of the last layer is trained too
    and dropped at the end. The last layer of `model` is dense and returns the logits. Neither the
    retain set nor labels are used. The BatchNorm statistics become the forget set's. `tx` is an
    optimizer of `Widened` parameters.

    Returns:
      The unlearner. Info: `extra_loss`. `prepare` raises `InputError` if a column of the output
      layer changes more than its own logit.

    Raises:
      InputError: the last layer is not dense with a bias.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = boundary_expand(model, spec, BoundaryExpandConfig(learning_rate=0.1))
      >>> _, history = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(history["extra_loss"][-1] < history["extra_loss"][0])
      True

    References:
      Chen, Gao, Liu, Peng and Wang, "Boundary Unlearning", 2023, https://arxiv.org/abs/2303.11570
    """
    epochs = Epochs(spec.num_forget, config.batch_size, config.epochs)
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs)
    where = head(model, shapes, spec.inputs, spec.num_classes)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> State:
        column_key, order_key = jax.random.split(key)
        params = Widened(variables.params, new_column(column_key, variables.params, where))
        widened = Variables(params, variables.state)
        _check_columns(model, where, widened, data.forget.inputs[:1])
        return State(widened, order_key)

    def sample(t: jax.Array, state: State, data: UnlearnData) -> Array:
        return take(data.forget.inputs, epochs.rows(state.order_key, t))

    def loss(key: Key, params: Widened, state: State, batch: Array) -> tuple[jax.Array, PyTree]:
        variables = Variables(params, state.variables.state)
        logits, model_state = widened_apply(model, where, variables, batch, train=True, key=key)
        labels = jnp.full(len(batch), spec.num_classes)
        return cross_entropy(logits, labels).mean(), model_state

    method = gradient_method(
        tx or config.optimizer(epochs.num_steps),
        epochs.num_steps,
        sample=sample,
        loss=loss,
        prepare=prepare,
        info=lambda loss: {"extra_loss": loss},
    )

    def finish(state: State) -> Variables:
        return state.variables._replace(params=state.variables.params.params)

    return method._replace(finish=finish)


def new_column(key: Key, params: PyTree, where: Head) -> Column:
    r"""Return random weights, uniform in :math:`\pm 1/\sqrt d`, as torch draws a dense layer's."""
    first = _first_column(params, where)
    limit = len(first.kernel) ** -0.5
    return Column(
        *(
            jax.random.uniform(part_key, part.shape, part.dtype, -limit, limit)
            for part_key, part in zip(jax.random.split(key), first, strict=True)
        )
    )


def widened_apply(
    model: Model,
    where: Head,
    variables: Variables,
    inputs: Array,
    *,
    train: bool = False,
    key: Key | None = None,
) -> tuple[jax.Array, PyTree]:
    """Return the logits `[B, C + 1]` of `Widened` parameters, extra class last, and the new state.

    The gradient of the extra logit does not reach column 0, which the extra column replaces.
    """
    logits, state = _apply_twice(model, where, variables, inputs, train=train, key=key)
    return jnp.concatenate([logits[0], logits[1, :, :1]], axis=1), state


def _apply_twice(model: Model, where: Head, variables: Variables, inputs: Array, **options):
    """Return the logits `[2, B, C]` with column 0 and with the extra one, and the new state."""
    params, extra = variables.params

    def apply(column: Column) -> tuple[jax.Array, PyTree]:
        replaced = _with_first_column(params, where, column)
        return model.apply(variables._replace(params=replaced), inputs, **options)

    columns = jax.tree.map(lambda *both: jnp.stack(both), _first_column(params, where), extra)
    return jax.vmap(apply, out_axes=(0, None))(columns)


def _first_column(params: PyTree, where: Head) -> Column:
    arrays = dict(jax.tree_util.tree_leaves_with_path(params))
    return Column(arrays[where.kernel][:, 0], arrays[where.bias][0])


def _with_first_column(params: PyTree, where: Head, column: Column) -> PyTree:
    values = {where.kernel: column.kernel, where.bias: column.bias}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.at[..., 0].set(values[path]) if path in values else leaf, params
    )


def _check_columns(model: Model, where: Head, variables: Variables, inputs: Array) -> None:
    (before, after), _ = jit(partial(_apply_twice, model, where))(variables, inputs)
    if not np.allclose(before[:, 1:], after[:, 1:], rtol=1e-5, atol=1e-5):
        raise InputError(
            "model",
            f"{model.name} has outputs that depend on more than their own column of the last "
            "layer, as after a softmax",
            "return logits, or choose another method",
        )


METHOD = Method(
    name="boundary_expand",
    summary="train the forget set into an extra class, then remove the class",
    reference="Chen et al. 2023, arXiv 2303.11570",
    build=boundary_expand,
    traced=SGD_NUMBERS,
    config=BoundaryExpandConfig(),
    space={"learning_rate": LogUniform(1e-5, 1e-2), "epochs": Choice((5, 10))},
)
