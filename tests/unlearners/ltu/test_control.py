"""The control descends one plain gradient of the very losses that LTU descends."""

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import MembershipSpec, MIMatchConfig, Objective, mi_match
from ltu_jax.unlearners.ltu.tasks import make_tasks
from tests.unlearners.test_protocol import CLASSES, DATA, TINY, VARIABLES

OBJECTIVE = Objective(specs=(MembershipSpec("log_odds"),))
CONFIG = MIMatchConfig(audit_size=8, query_size=16, learning_rate=0.5, objective=OBJECTIVE)
SPEC = spec_of(DATA, CLASSES)


def test_first_step_is_gradient_descent_on_the_sum_of_losses():
    method = mi_match(TINY, SPEC, CONFIG)
    state = method.prepare(jax.random.key(0), VARIABLES, DATA)
    batch = method.sample(jax.random.key(1), jnp.asarray(0), state, DATA)
    after, info = method.step(jax.random.key(2), state, batch)
    losses = make_tasks(TINY, SPEC, CONFIG, OBJECTIVE.build()).losses(state, batch)

    def total(params):
        forget = losses.membership(params).mean()
        return losses.queries(params).mean() + CONFIG.forget_weight * forget

    grads = jax.grad(total)(VARIABLES.params)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    scale = CONFIG.learning_rate * min(1.0, CONFIG.max_update_norm / norm)
    wanted = jax.tree.map(lambda x, grad: x - scale * grad, VARIABLES.params, grads)
    for one, other in zip(jax.tree.leaves(after.variables.params), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    loss = info["loss_remember"] + CONFIG.forget_weight * info["loss_forget"]
    np.testing.assert_allclose(loss, total(VARIABLES.params), rtol=1e-5)
