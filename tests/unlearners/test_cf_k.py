"""CF-k: what trains, which bits stay, and that all layers together are fine-tuning."""

import jax
import numpy as np
import pytest

from ltu_jax.models import build
from ltu_jax.training.loop import unlearn
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.cf_k import LastLayersConfig, cf_k
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
from tests.unlearners.last_layers import CLASSES, MODEL, changed, small

SGD = {"epochs": 1, "batch_size": 4, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1}
KEY = jax.random.key(2)


@pytest.mark.parametrize(("layers", "wanted"), [(1, {"fc"}), (2, {"conv2", "bn2", "fc"})])
def test_only_the_last_layers_and_their_statistics_move(layers, wanted):
    data, variables = small()
    method = cf_k(MODEL, spec_of(data, CLASSES), LastLayersConfig(layers=layers, **SGD))
    result, _ = unlearn(method, variables, data, key=KEY)  # checks the claim
    assert changed(result, variables) == wanted
    assert method.invariants.preserves_model_state == (layers == 1)
    claimed = method.invariants.trainable_mask(None)
    assert {name for name in claimed if all(jax.tree.leaves(claimed[name]))} == wanted


def test_all_layers_are_fine_tuning():
    data, variables = small()
    one = cf_k(MODEL, spec_of(data, CLASSES), LastLayersConfig(layers=9, **SGD))
    other = finetune(MODEL, spec_of(data, CLASSES), FineTuneConfig(**SGD))
    assert one.num_steps == other.num_steps == 3
    results = [unlearn(method, variables, data, key=KEY)[0] for method in (one, other)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results)
    assert changed(results[0], variables) == {"conv1", "bn1", "conv2", "bn2", "fc"}


def test_frozen_layers_cost_no_gradient():
    model, (data, _) = build("mlp", CLASSES), small()
    variables = jax.eval_shape(model.init, KEY, data.retain.inputs)

    def flops(layers):
        method = cf_k(model, spec_of(data, CLASSES), LastLayersConfig(layers=layers, **SGD))
        state = jax.eval_shape(method.prepare, KEY, variables, data)
        batch = jax.eval_shape(method.sample, KEY, 0, state, data)
        return jax.jit(method.step).lower(KEY, state, batch).compile().cost_analysis()["flops"]

    assert flops(1) < 0.5 * flops(3)
