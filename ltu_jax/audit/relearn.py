"""Relearning the forget set: the loss curve of fine-tuning a model on it."""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltu_jax.training.loop import run
from ltu_jax.training.losses import cross_entropy
from ltu_jax.training.steps import Step
from ltu_jax.types import Examples, Model, Variables

RELEARN_STEPS = 60
_OPTIMIZER = optax.sgd(0.01, momentum=0.9)


def relearn_curve(model: Model, variables: Variables, forget: Examples) -> np.ndarray:
    """Return the loss on the forget set before each of 60 full-batch SGD steps on it, `[60]`.

    Model state (BatchNorm statistics) is constant. Compare with Retrain's curve: a model that never
    saw the examples learns them as well, more slowly.
    """
    state = (variables, _OPTIMIZER.init(variables.params))
    _, history = run(_step(model), state, forget, key=jax.random.key(0), num_steps=RELEARN_STEPS)
    return history["loss"]


@lru_cache(maxsize=2)
def _step(model: Model) -> Step:
    """Return the step; cached, so that it is compiled once for all models."""

    def update(key, state, data: Examples):
        del key
        variables, opt_state = state

        def loss_fn(params):
            logits, _ = model.apply(variables._replace(params=params), data.inputs)
            return cross_entropy(logits, jnp.asarray(data.labels)).mean()

        loss, grads = jax.value_and_grad(loss_fn)(variables.params)
        updates, opt_state = _OPTIMIZER.update(grads, opt_state)
        params = optax.apply_updates(variables.params, updates)
        return (variables._replace(params=params), opt_state), {"loss": loss}

    return Step(lambda key, t, state, data: data, update)
