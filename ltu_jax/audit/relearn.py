"""Learning the forget set again: how fast its loss comes back tells what was left of it."""

from __future__ import annotations

from functools import lru_cache

import jax
import numpy as np
import optax

from ltu_jax.training.loop import Step, run
from ltu_jax.training.losses import cross_entropy
from ltu_jax.types import Examples, Model, Variables

RELEARN_STEPS = 60
_OPTIMIZER = optax.sgd(0.01, momentum=0.9)


def relearn(model: Model, variables: Variables, forget: Examples) -> np.ndarray:
    """Return the loss on the forget set before each of 60 full-batch steps of SGD on it, `[60]`.

    Model state (BatchNorm statistics) stays as it is. Compare with Retrain's own curve: a network
    that never saw the examples learns them too, only more slowly.
    """
    state = (variables, _OPTIMIZER.init(variables.params))
    _, history = run(_step(model), state, forget, key=jax.random.key(0), num_steps=RELEARN_STEPS)
    return history["loss"]


@lru_cache(maxsize=2)
def _step(model: Model) -> Step:
    """Return the step, kept so that the next network finds it compiled."""

    def step(key, t, state, forget: Examples):
        del key, t
        variables, opt_state = state

        def loss_fn(params):
            logits, _ = model.apply(variables._replace(params=params), forget.inputs)
            return cross_entropy(logits, forget.labels).mean()

        loss, grads = jax.value_and_grad(loss_fn)(variables.params)
        updates, opt_state = _OPTIMIZER.update(grads, opt_state)
        params = optax.apply_updates(variables.params, updates)
        return (variables._replace(params=params), opt_state), {"loss": loss}

    return step
