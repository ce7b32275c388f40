"""l1-sparse: fine-tuning under a decaying l1 penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ltu_jax.errors import InputError
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Array, DataSpec, Key, Model, PyTree, UnlearnData, Unlearner
from ltu_jax.unlearners.base import (
    Choice,
    LogUniform,
    Method,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from ltu_jax.unlearners.gradient_method import (
    SGD_NUMBERS,
    SGDConfig,
    State,
    gradient_method,
    mean_loss,
)
from ltu_jax.unlearners.sampling import Epochs, take


@dataclass(frozen=True)
class L1SparseConfig(SGDConfig):
    """Options of l1-sparse.

    Epochs, learning rate, momentum and weight decay are those of the Unlearn-Sparse scripts (Jia et
    al. 2023), as is a penalty that falls linearly, which their paper finds better than a constant
    or a rising one. The size of the penalty and the cosine schedule are ours.

    Attributes:
      penalty: weight of the sum of absolute parameters in the first epoch.
      unpenalised_epochs: number of epochs without penalty at the end; the authors' `no_l1_epochs`.
    """

    epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 0.01
    penalty: NonNegativeFloat = 1e-4
    unpenalised_epochs: NonNegativeInt = 0

    def __post_init__(self):
        super().__post_init__()
        if self.unpenalised_epochs >= self.epochs:
            raise InputError(
                "unpenalised_epochs",
                f"is {self.unpenalised_epochs} of {self.epochs} epochs",
                "give fewer than `epochs`",
            )


class L1SparseBatch(NamedTuple):
    """Retain examples `[B]` and the penalty of the epoch that the step is in, a scalar."""

    inputs: Array
    labels: Array
    penalty: jax.Array


def l1_sparse(
    model: Model,
    spec: DataSpec,
    config: L1SparseConfig = L1SparseConfig(),
    *,
    tx: optax.GradientTransformation | None = None,
) -> Unlearner:
    r"""Build l1-sparse fine-tuning on the accessible retain set.

    .. math:: L_e(\theta) = CE(f_\theta(x), y) + \gamma_e \|\theta\|_1, \qquad
        \gamma_e = \gamma \max\big(1 - \tfrac{e}{E - E_0}, 0\big)

    in epoch :math:`e` of :math:`E`, the last :math:`E_0` of which are unpenalised. The norm is over
    all parameters, biases and normalisation included. Nothing is pruned.

    Returns:
      The unlearner. Info: `loss`, the penalty included.

    Example:
      >>> from ltu_jax.training.loop import unlearn
      >>> from ltu_jax.unlearners.base import toy_problem
      >>> model, variables, data, spec = toy_problem()
      >>> method = l1_sparse(model, spec, L1SparseConfig(epochs=30, penalty=1.0))
      >>> result, _ = unlearn(method, variables, data, key=jax.random.key(0))
      >>> bool(jnp.abs(result.params["kernel"]).sum() < jnp.abs(variables.params["kernel"]).sum())
      True

    References:
      Jia, Liu, Ram, Yao, Liu, Liu, Sharma and Liu, "Model Sparsity Can Simplify Machine
      Unlearning", 2023, https://arxiv.org/abs/2304.04934
    """
    epochs = Epochs(spec.num_retain, config.batch_size, config.epochs)
    data_loss = mean_loss(model, lambda logits, batch: cross_entropy(logits, batch.labels))

    def sample(t: jax.Array, state: State, data: UnlearnData) -> L1SparseBatch:
        passed = t // epochs.steps_per_epoch / (config.epochs - config.unpenalised_epochs)
        examples = take(data.retain, epochs.rows(state.order_key, t))
        penalty = config.penalty * jnp.maximum(1 - passed, 0)
        return L1SparseBatch(examples.inputs, examples.labels, penalty)

    def loss(
        key: Key, params: PyTree, state: State, batch: L1SparseBatch
    ) -> tuple[jax.Array, PyTree]:
        value, model_state = data_loss(key, params, state, batch)
        return value + batch.penalty * _l1_norm(params), model_state

    return gradient_method(
        tx or config.optimizer(epochs.num_steps), epochs.num_steps, sample=sample, loss=loss
    )


def _l1_norm(params: PyTree) -> jax.Array:
    # The gradient of jnp.abs at 0 is 1, which would push a weight that is 0 back and forth.
    signs = jax.lax.stop_gradient(jax.tree.map(jnp.sign, params))
    return jnp.asarray(optax.tree.vdot(signs, params))


METHOD = Method(
    name="l1_sparse",
    summary="fine-tune on the accessible retain set under a decaying l1 penalty",
    reference="Jia et al. 2023, arXiv 2304.04934",
    build=l1_sparse,
    traced=(*SGD_NUMBERS, "penalty"),
    config=L1SparseConfig(),
    space={
        "learning_rate": LogUniform(5e-3, 2e-1),
        "epochs": Choice((5, 10)),
        "penalty": LogUniform(1e-5, 1e-3),
    },
)
