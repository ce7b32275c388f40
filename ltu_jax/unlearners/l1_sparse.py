"""l1-sparse: fine-tune under an l1 penalty that fades, so that weights which only memorise go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import check_range
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import (
    DataSpec,
    Examples,
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
from ltu_jax.unlearners.sampling import batches_per_pass, mean_loss, shuffled_rows, take


@dataclass(frozen=True)
class L1SparseConfig(SGDConfig):
    """Options of l1-sparse.

    Epochs 10, learning rate 0.01, momentum and weight decay are those of the Unlearn-Sparse scripts
    (Jia et al. 2023), as is a penalty that falls linearly from the first epoch on, which their
    paper finds better than a constant or a rising one. The size of the penalty and the cosine
    schedule are ours.

    Attributes:
      penalty: weight of the sum of absolute parameters in the first epoch.
      unpenalised_epochs: at the end, without any penalty; `no_l1_epochs` of the authors.
    """

    epochs: int = 10
    learning_rate: float = 0.01
    penalty: float = 1e-4
    unpenalised_epochs: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_range(self, ("penalty",), lambda x: x >= 0, "a number of at least 0")
        check_range(
            self,
            ("unpenalised_epochs",),
            lambda x: 0 <= x < self.epochs,
            f"0 or more and fewer than the {self.epochs} epochs",
        )


class L1SparseState(NamedTuple):
    """What l1-sparse carries.

    Attributes:
      variables: the network.
      opt_state: of the optimizer.
      order_key: of the order in which examples come.
    """

    variables: Variables
    opt_state: optax.OptState
    order_key: Key


class L1SparseBatch(NamedTuple):
    """Retain examples `[B]` and the penalty of the epoch that the step is in, a scalar."""

    examples: Examples
    penalty: jax.Array


def l1_sparse(
    model: Model,
    spec: DataSpec,
    config: L1SparseConfig = L1SparseConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build l1-sparse fine-tuning on the accessible retain set.

    The loss of epoch :math:`e` is :math:`L_{retain} + \gamma_e \|\theta\|_1` over all parameters,
    biases and normalisation included, with :math:`\gamma_e = \gamma (1 - e / (E - E_0))` until the
    last :math:`E_0` epochs, where it is 0. Nothing is pruned. BatchNorm normalises with the batch,
    and its statistics follow.

    Args:
      model: takes raw inputs.
      spec: sizes and types of the data.
      config: see `L1SparseConfig`; an epoch is a pass over the accessible retain set.
      tx: the optimizer; None takes the config's.

    Returns:
      The unlearner.
    """
    num_retain = spec.num_retain
    batch_size = min(config.batch_size, num_retain)
    steps_per_epoch = batches_per_pass(num_retain, batch_size)
    num_steps = config.epochs * steps_per_epoch
    tx = tx or config.optimizer(num_steps)

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> L1SparseState:
        return L1SparseState(variables, tx.init(variables.params), key)

    def sample(key: Key, t: jax.Array, state: L1SparseState, data: UnlearnData) -> L1SparseBatch:
        del key
        passed = t // steps_per_epoch / (config.epochs - config.unpenalised_epochs)
        rows = shuffled_rows(state.order_key, t, num_retain, batch_size)
        return L1SparseBatch(take(data.retain, rows), config.penalty * jnp.maximum(1 - passed, 0))

    def step(key: Key, state: L1SparseState, batch: L1SparseBatch) -> tuple[L1SparseState, Info]:
        data_loss = mean_loss(
            model,
            state.variables.state,
            batch.examples.inputs,
            lambda logits: cross_entropy(logits, batch.examples.labels),
            train=True,
            key=key,
        )

        def loss_fn(params: PyTree) -> tuple[jax.Array, PyTree]:
            loss, model_state = data_loss(params)
            return loss + batch.penalty * _l1_norm(params), model_state

        variables, opt_state, loss = descend(tx, loss_fn, state.variables, state.opt_state)
        return state._replace(variables=variables, opt_state=opt_state), {"loss": loss}

    return Unlearner(prepare, sample, step, lambda state: state.variables, num_steps)


def _l1_norm(params: PyTree) -> jax.Array:
    # The gradient of jnp.abs at 0 is 1, which would push a weight that is gone back and forth.
    signs = jax.lax.stop_gradient(jax.tree.map(jnp.sign, params))
    return optax.tree.vdot(signs, params)


METHOD = Method(
    name="l1_sparse",
    summary="fine-tune on the accessible retain set under an l1 penalty that fades",
    reference="Jia et al. 2023, arXiv 2304.04934",
    build=l1_sparse,
    config=L1SparseConfig(),
    space={
        "learning_rate": LogUniform(5e-3, 2e-1),
        "epochs": Choice((5, 10)),
        "penalty": LogUniform(1e-5, 1e-3),
    },
)
