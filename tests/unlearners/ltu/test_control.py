"""The control descends one plain gradient of the very losses that LTU descends."""

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.control import MIMatchConfig, mi_match
from ltu_jax.unlearners.ltu.membership import MembershipSpec
from ltu_jax.unlearners.ltu.tasks import tasks
from tests.unlearners.test_protocol import CLASSES, DATA, TINY, VARIABLES

CONFIG = MIMatchConfig(
    audit_size=8, query_size=16, learning_rate=0.5, membership=(MembershipSpec("log_odds"),)
)


def test_first_step_is_gradient_descent_on_the_sum_of_losses():
    method = mi_match(TINY, spec_of(DATA, CLASSES), CONFIG)
    state = method.prepare(jax.random.key(0), VARIABLES, DATA)
    batch = method.sample(jax.random.key(1), jnp.asarray(0), state, DATA)
    after, info = method.step(jax.random.key(2), state, batch)
    task = tasks(TINY, state, batch, CONFIG.as_ltu())

    def total(params):
        return task.queries(params).mean() + CONFIG.forget_weight * task.membership(params).mean()

    grads = jax.grad(total)(VARIABLES.params)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    scale = CONFIG.learning_rate * min(1.0, CONFIG.max_update_norm / norm)
    wanted = jax.tree.map(lambda x, grad: x - scale * grad, VARIABLES.params, grads)
    for one, other in zip(jax.tree.leaves(after.variables.params), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    loss = info["loss_remember"] + CONFIG.forget_weight * info["loss_forget"]
    np.testing.assert_allclose(loss, total(VARIABLES.params), rtol=1e-5)
