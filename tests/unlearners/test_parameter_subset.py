"""Some of the parameters unlearn; the others come out equal to the bit, by any method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.errors import InputError, InvariantError
from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, UnlearnData, Variables
from ltu_jax.unlearners import METHODS, configure
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu.config import LTUConfig
from ltu_jax.unlearners.parameter_subset import build, choose
from tests.models.pairs import linen_and_nnx
from tests.tiny import TINY_LTU

KEY = jax.random.key(0)
TREE = {"body": {"conv": {"kernel": 1, "bias": 2}}, "head": [3, {"lora_a": 4, "lora_b": 5}]}


def data(shape, classes=3):
    rng = np.random.default_rng(0)
    return UnlearnData(
        *(
            Examples(
                jnp.asarray(rng.normal(size=(size, *shape)), jnp.float32),
                jnp.asarray(np.arange(size) % classes, jnp.int32),
            )
            for size in (12, 30, 24)
        )
    )


def init(key, inputs):
    one, other = jax.random.split(key)
    return [
        {"kernel": jax.random.normal(one, (4, 6)), "bias": jnp.zeros(6)},
        (jax.random.normal(other, (6, 3)), jnp.zeros(3)),
    ]


def apply(params, inputs):
    """A hand-written network, whose parameters are lists and tuples as well."""
    hidden = jnp.tanh(inputs @ params[0]["kernel"] + params[0]["bias"])
    return hidden @ params[1][0] + params[1][1]


TINY = from_functions(init, apply, name="tiny")
DATA = data((4,))
VARIABLES = jax.tree.map(lambda x: x + 0.1, TINY.init(KEY, DATA.forget.inputs))


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ("head", ["head/0", "head/1/lora_a", "head/1/lora_b"]),
        ("*lora*", ["head/1/lora_a", "head/1/lora_b"]),
        ("body/conv/kernel", ["body/conv/kernel"]),
        (["*/bias", "head/0"], ["body/conv/bias", "head/0"]),
        (lambda path: path.endswith("b"), ["head/1/lora_b"]),
    ],
)
def test_parameters_are_chosen_by_their_paths(only, chosen):
    assert list(choose(only, TREE)) == chosen


@pytest.mark.parametrize("only", ["Head", ["head", "tail"], "*", lambda path: False, [], 3, [3]])
def test_a_choice_of_all_none_or_unknown_parameters_is_refused(only):
    with pytest.raises(InputError) as error:
        choose(only, TREE)
    assert error.value.argument == "only"
    assert "\n" not in str(error.value)


def test_an_unknown_parameter_is_refused_with_the_paths():
    with pytest.raises(InputError) as error:
        choose("Head", TREE)
    assert "body/conv/bias" in error.value.problem


# Weight decay, momentum and noise move weights that have no gradient, and one method has no steps.
@pytest.mark.parametrize(
    ("name", "only"),
    [("l1_sparse", "0"), ("salun", "1/0"), ("fisher_forgetting", "1/0"), ("ltu", "0")],
)
def test_all_other_parameters_are_equal_to_the_bit(name, only):
    method = METHODS[name]
    config = TINY_LTU if name == "ltu" else method.config
    chosen = choose(only, VARIABLES.params)
    unlearner = build(method, TINY, spec_of(DATA, 3), config, chosen)
    after, _ = unlearn(unlearner, VARIABLES, DATA, key=KEY)
    assert jax.tree.structure(after) == jax.tree.structure(VARIABLES)
    leaves = zip(
        jax.tree_util.tree_leaves_with_path(after.params), jax.tree.leaves(VARIABLES.params)
    )
    moved = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for (path, new), old in leaves
        if not np.array_equal(new, old)
    }
    assert moved
    assert moved <= set(chosen)


def test_steps_equal_those_of_a_model_with_the_other_parameters_built_in():
    fixed = VARIABLES.params[0]
    head = from_functions(
        lambda key, inputs: init(key, inputs)[1],
        lambda params, inputs: apply([fixed, params], inputs),
        name="head",
    )
    config = configure(METHODS["finetune"], {"epochs": 2})
    expected, _ = unlearn(
        METHODS["finetune"].build(head, spec_of(DATA, 3), config),
        Variables(VARIABLES.params[1], {}),
        DATA,
        key=KEY,
    )
    chosen = choose("1", VARIABLES.params)
    partly = build(METHODS["finetune"], TINY, spec_of(DATA, 3), config, chosen)
    actual, _ = unlearn(partly, VARIABLES, DATA, key=KEY)
    for one, other in zip(actual.params[1], expected.params):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", linen_and_nnx(), ids=["linen", "nnx"])
def test_statistics_before_the_first_chosen_parameter_stay(model):
    images = data((6, 6, 1))
    variables = model.init(KEY, images.forget.inputs)
    config = configure(METHODS["finetune"], {"epochs": 1})
    for only, follows in (("head", False), ("conv", True)):
        chosen = choose(only, variables.params)
        unlearner = build(METHODS["finetune"], model, spec_of(images, 3), config, chosen)
        assert unlearner.invariants.preserves_model_state is not follows
        after, _ = unlearn(unlearner, variables, images, key=KEY)
        same = jax.tree.map(np.array_equal, after.state, variables.state)
        assert all(jax.tree.leaves(same)) is not follows


def test_a_frozen_weight_that_moves_is_an_error():
    chosen = choose("1", VARIABLES.params)
    config = configure(METHODS["finetune"], {"epochs": 1})
    sound = build(METHODS["finetune"], TINY, spec_of(DATA, 3), config, chosen)

    def finish(state):
        result = sound.finish(state)
        result.params[0]["bias"] = result.params[0]["bias"].at[2].add(1e-6)
        return result

    with pytest.raises(InvariantError, match=r"1 frozen weights of parameter \[0\]\['bias'\]"):
        unlearn(sound._replace(finish=finish), VARIABLES, DATA, key=KEY)


@pytest.mark.parametrize("name", ["retrain_accessible", "eu_k"])
def test_methods_that_start_from_new_weights_are_refused(name):
    with pytest.raises(InputError) as error:
        build(METHODS[name], TINY, spec_of(DATA, 3), METHODS[name].config, ("1/0",))
    assert error.value.argument == "only"


def test_without_a_choice_every_weight_is_trained():
    unlearner = build(METHODS["ltu"], TINY, spec_of(DATA, 3), LTUConfig(), None)
    assert unlearner.invariants.trainable_mask is None
