"""Options that are numbers are arguments of a step: settings share a program and their results."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from ltu_jax.errors import InputError
from ltu_jax.training.loop import as_step, unlearn
from ltu_jax.training.steps import compiled_parts
from ltu_jax.unlearners import METHODS, configure, numbers
from ltu_jax.unlearners.base import spec_of, toy_problem
from ltu_jax.unlearners.finetune import FineTuneConfig

KEY = jax.random.key(0)
MODEL, VARIABLES, DATA, SPEC = toy_problem()
TRACED = {
    name: replace(method, config=configure(method, {"epochs": 2}))
    for name, method in METHODS.items()
    if method.traced and name in ("finetune", "neggrad_plus", "l1_sparse", "scrub", "bad_teacher")
}


@pytest.mark.parametrize("name", TRACED)
def test_traced_numbers_change_no_result(name):
    method = TRACED[name]
    plain = method.build(MODEL, SPEC, method.config)
    traced = numbers.build(method, MODEL, SPEC, method.config)
    one, other = (unlearn(way, VARIABLES, DATA, key=KEY)[0] for way in (plain, traced))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_two_settings_share_one_program_and_differ():
    method = METHODS["finetune"]
    settings = FineTuneConfig(epochs=2), FineTuneConfig(epochs=3, learning_rate=0.3)
    built = [numbers.build(method, MODEL, SPEC, config) for config in settings]
    assert as_step(built[0]) == as_step(built[1])
    assert [one.num_steps for one in built] == [2, 3]
    results = [unlearn(one, VARIABLES, DATA, key=KEY)[0].params["kernel"] for one in built]
    plain = [
        unlearn(method.build(MODEL, SPEC, config), VARIABLES, DATA, key=KEY)[0].params["kernel"]
        for config in settings
    ]
    assert np.abs(results[0] - results[1]).max() > 1e-3
    np.testing.assert_allclose(results, plain, rtol=1e-6)


def test_a_zero_stays_in_the_program():
    method = METHODS["finetune"]
    config = FineTuneConfig(weight_decay=0.0)
    state = numbers.build(method, MODEL, SPEC, config).prepare(KEY, VARIABLES, DATA)
    assert set(state.numbers) == {"epochs", "learning_rate", "momentum", "temperature"}


def test_the_teacher_of_each_retain_example_is_no_part_of_the_update():
    method = METHODS["finetune"]
    unlearner = method.build(MODEL, SPEC, FineTuneConfig(distill=0.5))
    state = unlearner.prepare(KEY, VARIABLES, DATA)
    after, _ = compiled_parts(as_step(unlearner))(1, KEY, 0, state, DATA)
    assert after.extra is state.extra
    assert after.variables.params["kernel"] is not state.variables.params["kernel"]


def test_options_out_of_range_are_refused_all_the_same():
    with pytest.raises(InputError) as caught:
        numbers.build(METHODS["finetune"], MODEL, SPEC, FineTuneConfig(epochs=-1))
    assert caught.value.argument == "epochs"


def test_every_traced_option_is_an_option():
    for method in METHODS.values():
        for name in method.traced:
            assert isinstance(numbers.option(method.config, name), int | float), (method.name, name)


def test_the_specification_of_data_is_part_of_the_program():
    fewer = DATA._replace(forget=jax.tree.map(lambda x: x[:2], DATA.forget))
    method = METHODS["finetune"]
    one, other = (
        numbers.build(method, MODEL, spec, method.config) for spec in (SPEC, spec_of(fewer, 2))
    )
    assert one.sample is not other.sample
