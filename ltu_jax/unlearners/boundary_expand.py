"""Boundary expand: give the forget set a class of its own, then take the class away.

The output layer gets a column for an extra class, the forget set is trained into it, and the column
is removed again: what is left of the network has to make do with the second best.

A network is a pair of pure functions and cannot be widened. But each column of its last layer makes
one logit: the extra class's is what class 0 gets from the same network once the extra column stands
in for column 0. So the forward pass is mapped over two columns; all but the last layer does not
depend on them and is computed once, forth and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

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
    Info,
    Key,
    Model,
    PyTree,
    UnlearnData,
    Unlearner,
    Variables,
)
from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.gradient_method import SGDConfig, descend
from ltu_jax.unlearners.sampling import batches_per_pass, shuffled_rows, take


@dataclass(frozen=True)
class BoundaryExpandConfig(SGDConfig):
    """Options of boundary expand.

    Defaults are those of the authors' code (TY-LEE-KR/Boundary-Unlearning-Code): 10 epochs of SGD
    in batches of 64 at learning rate 1e-5, no weight decay. The search goes up to the 0.01 of the
    Unlearn-Saliency scripts (Fan et al. 2024).
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"


class Column(NamedTuple):
    """The extra class's part of the output layer: kernel `[d]` and bias `[]`."""

    kernel: jax.Array
    bias: jax.Array


class Widened(NamedTuple):
    """Parameters of the network and the extra class's column, trained together."""

    params: PyTree
    extra: Column


class BoundaryExpandState(NamedTuple):
    """What boundary expand carries.

    Attributes:
      variables: the network, whose params are `Widened`.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key


def boundary_expand(
    model: Model,
    spec: DataSpec,
    config: BoundaryExpandConfig = BoundaryExpandConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    """Build boundary expand; the retain set is not looked at, and neither are labels.

    BatchNorm normalises with the batch, and its statistics follow: they become the forget set's.

    Args:
      model: takes raw inputs; its last layer is dense and gives the logits.
      spec: sizes and types of the data.
      config: see `BoundaryExpandConfig`; an epoch is a pass over the forget set.
      tx: the optimizer, of `Widened` parameters; None takes the config's.

    Returns:
      The unlearner; a batch is forget inputs `[B, ...]`. `prepare` raises `InputError` if the
      columns of the output layer do not act on one logit each.

    Raises:
      InputError: the last layer is not dense with a bias.
    """
    num_forget = spec.num_forget
    batch_size = min(config.batch_size, num_forget)
    num_steps = config.epochs * batches_per_pass(num_forget, batch_size)
    tx = tx or config.optimizer(num_steps)
    shapes = jax.eval_shape(model.init, jax.random.key(0), spec.inputs)
    where = head(model, shapes, spec.inputs, spec.num_classes)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> BoundaryExpandState:
        column_key, order_key = jax.random.split(key)
        params = Widened(variables.params, new_column(column_key, variables.params, where))
        widened = Variables(params, variables.state)
        _check_columns(model, where, widened, data.forget.inputs[:1])
        return BoundaryExpandState(widened, tx.init(params), order_key)

    def sample(key: Key, t: jax.Array, state: BoundaryExpandState, data: UnlearnData) -> Array:
        del key
        return take(data.forget.inputs, shuffled_rows(state.order_key, t, num_forget, batch_size))

    def step(
        key: Key, state: BoundaryExpandState, batch: Array
    ) -> tuple[BoundaryExpandState, Info]:
        def loss_fn(params: Widened) -> tuple[jax.Array, PyTree]:
            variables = Variables(params, state.variables.state)
            logits, model_state = widened_apply(model, where, variables, batch, train=True, key=key)
            labels = jnp.full(len(batch), spec.num_classes)
            return cross_entropy(logits, labels).mean(), model_state

        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"extra_loss": loss}

    def finish(state: BoundaryExpandState) -> Variables:
        return state.variables._replace(params=state.variables.params.params)

    return Unlearner(prepare, sample, step, finish, num_steps)


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

    The gradient of the extra logit does not reach column 0, for which its column stands in.
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
            f"--model {model.name}: each output must hang on its own column of the last layer, but "
            "they hang together, as after a softmax; return logits, or choose another method"
        )


METHOD = Method(
    name="boundary_expand",
    summary="train the forget set into an extra class, then remove the class",
    reference="Chen et al. 2023, arXiv 2303.11570",
    build=boundary_expand,
    config=BoundaryExpandConfig(),
    space={"learning_rate": LogUniform(1e-5, 1e-2), "epochs": Choice((5, 10))},
)
