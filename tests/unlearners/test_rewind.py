"""Rewind: which examples choose, which epoch is chosen, and that any method can be wrapped."""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners.base import toy_problem
from ltu_jax.unlearners.finetune import FineTuneConfig, finetune
from ltu_jax.unlearners.rewind import Rewind, choose, start, with_rewind

SIGN = from_functions(
    lambda key, inputs: {"at": jnp.zeros(())},
    lambda params, x: jnp.concatenate([x - params["at"], params["at"] - x], 1),
    name="threshold",
)


def thresholds(at, forget, reference, weights=None):
    """Models that predict class 0 above a threshold; all examples are of class 0."""

    def examples(inputs):
        return Examples(jnp.asarray(inputs)[:, None], jnp.zeros(len(inputs), jnp.int32))

    weights = np.full(len(reference), 1 / len(reference)) if weights is None else weights
    checkpoints = Variables({"at": jnp.asarray(at)}, {})
    return Rewind(checkpoints, examples(forget), examples(reference), jnp.asarray(weights))


@pytest.mark.parametrize(
    ("at", "reference", "weights", "chosen"),
    [
        # The last model errs on the whole forget set, but on half of the reference examples.
        ([1.5, 2.5, 3.5, 4.5], [4.0, 5.0], None, 2.5),
        # If the reference is all wrong too, the last model is the result.
        ([1.5, 2.5, 3.5, 4.5], [0.0, 1.0], None, 4.5),
        ([1.5, 2.5, 3.5, 4.5], [4.0, 5.0], [0.25, 0.75], 1.5),
        # Of equals, the latest.
        ([2.4, 2.6, 0.5, 4.5], [4.0, 5.0], None, 2.6),
    ],
)
def test_chooses_the_epoch_whose_forget_error_is_the_last_ones_reference_error(
    at, reference, weights, chosen
):
    forget = [1.0, 2.0, 3.0, 4.0]
    result = choose(SIGN, thresholds(at, forget, reference, weights))
    assert float(result.params["at"]) == pytest.approx(chosen)


def with_labels(labels):
    return Examples(jnp.arange(float(len(labels)))[:, None], jnp.asarray(labels))


def test_reference_examples_have_the_classes_of_the_forget_set():
    forget, validation = [0, 0, 0, 1, 3], [0, 1, 1, 2, 2, 2]
    data = UnlearnData(with_labels(forget), with_labels([2]), with_labels(validation))
    rewind = start(Variables({"at": jnp.asarray(7.0)}, {}), data, epochs=4)
    np.testing.assert_array_equal(rewind.forget.labels, [0, 0, 0, 1])
    np.testing.assert_array_equal(rewind.reference.labels, [0, 1, 1])
    np.testing.assert_array_equal(rewind.reference.inputs[:, 0], [0, 1, 2])
    np.testing.assert_allclose(rewind.weights, [3 / 4, 1 / 8, 1 / 8])
    np.testing.assert_array_equal(rewind.checkpoints.params["at"], [7.0] * 4)


def test_validation_without_an_example_of_a_forgotten_class_is_refused():
    data = UnlearnData(with_labels([2, 2, 1]), with_labels([0]), with_labels([0, 0]))
    with pytest.raises(InputError, match="rewind") as refused:
        start(Variables({}, {}), data, epochs=1)
    assert refused.value.argument == "rewind"


@pytest.mark.slow
def test_every_epoch_of_a_wrapped_method_is_kept():
    model, variables, data, spec = toy_problem()
    config = FineTuneConfig(epochs=3, batch_size=3, schedule="constant")
    tuning = finetune(model, spec, config)
    wrapped = with_rewind(tuning, model, np.repeat(np.arange(3), 3))
    assert wrapped.invariants.uses_validation
    key = jax.random.key(0)
    state = wrapped.prepare(key, variables, data)
    step = jax.jit(
        lambda key, t, state: wrapped.step(key, state, wrapped.sample(key, t, state, data))
    )
    plain_step = jax.jit(
        lambda key, t, state: tuning.step(key, state, tuning.sample(key, t, state, data))
    )
    plain, ends = tuning.prepare(key, variables, data), []
    for t in range(9):
        state, _ = step(key, t, state)
        plain, _ = plain_step(key, t, plain)
        if t % 3 == 2:
            ends.append(tuning.finish(plain))
    for epoch, end in enumerate(ends):
        kept = jax.tree.map(itemgetter(epoch), state.rewind.checkpoints)
        jax.tree.map(np.testing.assert_array_equal, kept, end)
    result, _ = unlearn(wrapped, variables, data, key=key)
    assert jax.tree.structure(result) == jax.tree.structure(variables)
