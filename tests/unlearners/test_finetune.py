"""Fine-tuning: the authors' runs, and what distillation does."""

import jax
import pytest

from ltu_jax.training.optimizers import torch_sgd
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.finetune import FineTuneBatch, FineTuneConfig, finetune
from tests.unlearners.parity import Case, net


@pytest.mark.parametrize("name", ["salun_ft", "salun_ft_bn"])
@pytest.mark.usefixtures("x64")
def test_follows_the_reference(name):
    case = Case(name)
    tx = torch_sgd(case.rates(), case.meta["momentum"], case.meta["weight_decay"])
    method = finetune(net(), spec_of(case.data, case.meta["num_classes"]), FineTuneConfig(), tx=tx)
    state = method.prepare(jax.random.key(0), case.variables(), case.data)
    step = jax.jit(method.step)
    trajectory = [state.variables.params]
    for t in range(case["n_steps"]):
        state, _ = step(jax.random.key(0), state, FineTuneBatch(*case.batch(t), None))
        trajectory.append(state.variables.params)
    case.assert_follows(trajectory)
    case.assert_state(state.variables.state, "final")
