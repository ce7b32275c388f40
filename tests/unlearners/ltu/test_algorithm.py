"""LTU as an unlearner: the result of a step, its inputs, and what it leaves unchanged."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltu_jax.errors import InputError
from ltu_jax.models import from_functions
from ltu_jax.training.loop import unlearn
from ltu_jax.types import Examples, Model, UnlearnData, Variables
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import (
    HeldoutDistillation,
    InnerStep,
    LTUConfig,
    MembershipSpec,
    Objective,
    ltu,
    match_membership,
    mi_match,
    with_weight_noise,
)
from ltu_jax.unlearners.ltu.objectives.base import Forgetting
from ltu_jax.unlearners.ltu.weight_noise import add_weight_noise
from tests.models.pairs import linen_and_nnx, to_nnx

KEY = jax.random.key(0)
CLASSES = 3
SIZES = {"forget": 16, "retain": 40, "validation": 32}
SMALL = LTUConfig(
    steps=3,
    support_size=6,
    audit_size=8,
    query_size=8,
    query_sampling=("uniform", "class", "hard", "cluster"),
    objective=Objective(
        target_source="heldout",
        specs=(MembershipSpec("log_odds"), MembershipSpec("entropy")),
        support=1,
    ),
    max_update_norm=0.01,
)
ONE_MODEL = replace(SMALL.objective, specs=SMALL.objective.specs[:1])
LIGHT = replace(SMALL, steps=2, query_sampling=("uniform",), objective=ONE_MODEL)
# Off: all but one uniform query set under its plain cross-entropy.
QUERIES_ONLY = replace(
    LIGHT,
    random_label_inner=InnerStep(lr=0.0, tune_weight=0.0),
    forget_weight=0.0,
    distill=0.0,
    max_update_norm=1e9,
)


def make_data(shape=(5,), seed=0):
    rng = np.random.default_rng(seed)
    return UnlearnData(
        **{
            name: Examples(
                jnp.asarray(rng.normal(size=(size, *shape)), jnp.float32),
                jnp.asarray(rng.integers(CLASSES, size=size), jnp.int32),
            )
            for name, size in SIZES.items()
        }
    )


def init_linear(key, inputs):
    return {
        "kernel": jax.random.normal(key, (inputs.shape[-1], CLASSES)),
        "bias": jnp.zeros(CLASSES),
    }


LINEAR = from_functions(init_linear, lambda p, x: x @ p["kernel"] + p["bias"], name="linear")
DATA = make_data()
VARIABLES = LINEAR.init(KEY, DATA.forget.inputs)


def one_step(model, variables, data, config):
    """Return the method's state before and after one step, the batch it saw and its diagnostics."""
    method = ltu(model, spec_of(data, CLASSES), config)
    state = method.prepare(jax.random.key(1), variables, data)
    batch = jax.jit(method.sample)(jax.random.key(2), jnp.asarray(0), state, data)
    after, info = jax.jit(method.step)(jax.random.key(3), state, batch)
    return state, after, batch, info


def assert_trees_close(actual, expected, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol, atol), actual, expected)


# Compiling is what costs here, so tests that look at the same step share it.
@pytest.fixture(scope="module")
def linear_step():
    return one_step(LINEAR, VARIABLES, DATA, SMALL)


@pytest.fixture(scope="module")
def linen_step():
    model, _ = linen_and_nnx(num_classes=CLASSES)
    data = make_data((4, 4, 1))
    variables = model.init(KEY, data.forget.inputs)
    return variables, data, one_step(model, variables, data, SMALL)


@pytest.fixture(scope="module")
def runs():
    """Results of whole runs under keys 5, 5 and 6."""
    method = ltu(LINEAR, spec_of(DATA, CLASSES), LIGHT)
    return [unlearn(method, VARIABLES, DATA, key=jax.random.key(seed)) for seed in (5, 5, 6)]


def last_layers_only(config, layers):
    return replace(
        config,
        random_label_inner=config.random_label_inner._replace(layers=layers),
        membership_inner=config.membership_inner._replace(layers=layers),
    )


def test_inner_steps_on_the_only_layer_are_those_on_all(linear_step):
    _, wanted, _, wanted_info = linear_step
    _, after, _, info = one_step(LINEAR, VARIABLES, DATA, last_layers_only(SMALL, 1))
    assert_trees_close((after.variables, info), (wanted.variables, wanted_info))


@pytest.mark.slow
def test_inner_steps_on_the_last_layers(linen_step):
    variables, data, (_, whole, _, _) = linen_step
    model, _ = linen_and_nnx(num_classes=CLASSES)
    kernels = [
        one_step(model, variables, data, last_layers_only(SMALL, layers))[1].variables.params
        for layers in (1, 99)
    ]
    assert_trees_close(kernels[1], whole.variables.params)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), kernels[0], whole.variables.params)
    assert all(change > 0 for change in jax.tree.leaves(moved))


def test_queries_alone_are_plain_sgd():
    _, after, batch, info = one_step(LINEAR, VARIABLES, DATA, QUERIES_ONLY)

    def cross_entropy(params):
        log_p = jax.nn.log_softmax(LINEAR.apply(Variables(params, {}), batch.queries.inputs)[0])
        return -jnp.take_along_axis(log_p, batch.queries.labels[:, None], axis=1).mean()

    loss, gradient = jax.value_and_grad(cross_entropy)(VARIABLES.params)
    wanted = jax.tree.map(
        lambda p, g: p - QUERIES_ONLY.learning_rate * g, VARIABLES.params, gradient
    )
    assert_trees_close(after.variables.params, wanted)
    np.testing.assert_allclose(info["loss_remember"], loss, rtol=1e-5)
    np.testing.assert_allclose(info["norm_remember"], optax.tree.norm(gradient), rtol=1e-5)


def test_membership_alone_is_plain_sgd_on_the_audit_batch():
    config = replace(
        QUERIES_ONLY,
        membership_inner=InnerStep(lr=0.0, tune_weight=0.25),
        forget_weight=2.0,
        distill=1.0,  # the teacher's own logits: no gradient at the original
        harmonize="none",
    )
    before, after, batch, info = one_step(LINEAR, VARIABLES, DATA, config)

    def match(params):
        logits, _ = LINEAR.apply(Variables(params, {}), batch.audit.inputs)
        forgetting = match_membership(config.objective.specs)
        return forgetting.losses(before.forgetting, (), logits, batch.audit.labels)[0]

    # One model is both support and query here, at weights 0.25 and 1.
    gradient = jax.grad(match)(VARIABLES.params)
    wanted = jax.tree.map(
        lambda p, g: p - config.learning_rate * 2.0 * 1.25 * g, VARIABLES.params, gradient
    )
    assert float(optax.tree.norm(gradient)) > 1e-2
    assert_trees_close(after.variables.params, wanted)
    np.testing.assert_allclose(info["loss_remember"], 0.0, atol=1e-6)


def test_update_is_clipped_to_its_norm(linear_step):
    before, after, _, info = linear_step
    moved = optax.tree.sub(after.variables.params, before.variables.params)
    assert info["norm_remember"] + info["norm_forget"] > 0.02
    np.testing.assert_allclose(optax.tree.norm(moved), 0.01 * SMALL.learning_rate, rtol=1e-2)


def test_batch_is_what_it_says(linear_step):
    state, _, batch, _ = linear_step
    forget = {tuple(x): int(y) for x, y in zip(np.array(DATA.forget.inputs), DATA.forget.labels)}
    for examples, size, relabelled in ((batch.support, 6, True), (batch.audit, 8, False)):
        rows = [tuple(x) for x in np.array(examples.inputs)]
        true = np.array(
            [forget[row] for row in rows]
        )  # KeyError for an example outside the forget set
        assert len(set(rows)) == len(rows) == size
        assert (np.array(examples.labels) != true).all() == relabelled
    queries = {tuple(x) for x in np.array(batch.queries.inputs)}
    assert len(queries) == 4 * SMALL.query_size
    logits, _ = LINEAR.apply(VARIABLES, batch.queries.inputs)
    np.testing.assert_allclose(batch.teacher, logits, rtol=1e-5, atol=1e-5)
    assert state.source.losses.shape == (SIZES["retain"],)


def test_statistics_are_updated_once_and_by_the_queries(linen_step):
    variables, _, (before, after, batch, _) = linen_step
    model, _ = linen_and_nnx(num_classes=CLASSES)
    # One training pass of the new parameters, starting from the old statistics.
    started = after.variables._replace(state=variables.state)
    _, wanted = model.apply(started, batch.queries.inputs, train=True, key=KEY)
    assert_trees_close(after.variables.state, wanted)
    moved = optax.tree.norm(optax.tree.sub(wanted, variables.state))
    assert float(moved) > 1e-3
    assert_trees_close(before.variables.state, variables.state, rtol=0, atol=0)


@pytest.mark.slow
def test_linen_and_nnx_take_the_same_step(linen_step):
    variables, data, (_, in_linen, _, linen_info) = linen_step
    _, nnx = linen_and_nnx(num_classes=CLASSES)
    _, in_nnx, _, nnx_info = one_step(nnx, to_nnx(variables), data, SMALL)
    assert_trees_close(to_nnx(in_linen.variables), in_nnx.variables)
    assert_trees_close(linen_info, nnx_info, rtol=1e-4, atol=1e-5)
    moved = optax.tree.norm(optax.tree.sub(in_linen.variables.params, variables.params))
    assert float(moved) > 0.5 * SMALL.learning_rate * SMALL.max_update_norm


def test_same_key_same_bits(runs):
    one, same, other = (jax.tree.leaves(variables.params) for variables, _ in runs)
    assert all(np.array_equal(a, b) for a, b in zip(one, same))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other))


def test_the_original_and_the_data_survive(runs):
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((VARIABLES, DATA)))
    assert_trees_close(DATA, make_data(), rtol=0, atol=0)
    assert_trees_close(VARIABLES, LINEAR.init(KEY, DATA.forget.inputs), rtol=0, atol=0)


def test_finish_returns_parameters_and_state_alone(runs):
    for unlearned, history in runs:
        assert type(unlearned) is Variables
        assert jax.tree.structure(unlearned) == jax.tree.structure(VARIABLES)
        assert all(values.shape == (LIGHT.steps,) for values in history.values())


TAGS = {"forget": 1.0, "retain": 2.0, "validation": 3.0}


def tagged_data():
    """Inputs whose first column tells which set they are of."""
    return UnlearnData(
        **{
            name: examples._replace(inputs=examples.inputs.at[:, 0].set(TAGS[name]))
            for name, examples in DATA._asdict().items()
        }
    )


def spying_model(seen):
    """A linear model with a running mean of its inputs that records (tags, train) of each pass."""

    def init(key, inputs):
        return Variables(init_linear(key, inputs), {"mean": jnp.zeros(inputs.shape[-1])})

    def apply(variables, inputs, *, train=False, key=None):
        jax.debug.callback(lambda x: seen.append((frozenset(x.tolist()), train)), inputs[:, 0])
        p, mean = variables.params, variables.state["mean"]
        state = {"mean": 0.9 * mean + 0.1 * inputs.mean(0)} if train else variables.state
        return (inputs - mean) @ p["kernel"] + p["bias"], state

    return Model(init, apply, "spy")


def test_every_pass_sees_the_set_that_it_may_see():
    seen = []
    model, data = spying_model(seen), tagged_data()
    method = ltu(model, spec_of(data, CLASSES), LIGHT)
    variables = model.init(KEY, data.forget.inputs)
    state = method.prepare(KEY, variables, data)
    jax.effects_barrier()
    # No pass over the forget set before the first step: the MI models are not fitted on it.
    assert set(seen) == {(frozenset({TAGS[n]}), False) for n in ("retain", "validation")}

    seen.clear()
    batch = method.sample(KEY, jnp.asarray(0), state, data)
    jax.block_until_ready(jax.jit(method.step)(KEY, state, batch))
    jax.effects_barrier()
    forget, retain = frozenset({TAGS["forget"]}), frozenset({TAGS["retain"]})
    # The sets never meet in one pass; BatchNorm learns from accessible retain examples alone.
    assert set(seen) == {(forget, False), (retain, False), (retain, True)}
    assert seen.count((retain, True)) == 1


def test_the_objective_is_fitted_to_outputs_on_retain_and_validation_examples():
    contexts = []

    def spy(key, context, size):
        contexts.append(context)
        assert size == LIGHT.audit_size
        return matching.init(key, context, size)

    matching = match_membership(ONE_MODEL.specs, support=1)
    unlearner = ltu(LINEAR, spec_of(DATA, CLASSES), LIGHT, forgetting=matching._replace(init=spy))
    unlearner.prepare(KEY, VARIABLES, DATA)
    (context,) = contexts
    for part in ("retain", "validation"):
        (logits, labels), examples = getattr(context, part), getattr(DATA, part)
        wanted, _ = LINEAR.apply(VARIABLES, examples.inputs)
        np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(labels, examples.labels)
    heldout = {tuple(row) for row in np.array(context.validation.inputs)}
    targets, labels = context.targets
    assert {tuple(row) for row in np.array(targets)} <= heldout
    shares = [np.bincount(some) / len(some) for some in (labels, DATA.forget.labels)]
    np.testing.assert_allclose(*shares)


def test_what_is_prepared_does_not_depend_on_forget_images():
    blank = DATA.forget._replace(inputs=jnp.full_like(DATA.forget.inputs, jnp.nan))
    method = ltu(LINEAR, spec_of(DATA, CLASSES), LIGHT)
    wanted = method.prepare(KEY, VARIABLES, DATA)
    actual = method.prepare(KEY, VARIABLES, DATA._replace(forget=blank))
    assert_trees_close(actual, wanted, rtol=0, atol=0)


def test_building_reads_sizes_only():
    shapes = jax.eval_shape(lambda: DATA)
    assert ltu(LINEAR, spec_of(shapes, CLASSES), SMALL).num_steps == SMALL.steps


def test_forgetting_a_class_never_labels_with_it():
    gone = 1
    kept = DATA.retain.labels.at[DATA.retain.labels == gone].set(0)
    data = DATA._replace(
        forget=DATA.forget._replace(labels=DATA.forget.labels.at[::2].set(gone)),
        retain=DATA.retain._replace(labels=kept),
    )
    method = ltu(LINEAR, spec_of(data, CLASSES), LIGHT)
    state = method.prepare(KEY, VARIABLES, data)
    assert state.allowed.tolist() == [True, False, True]
    sample = jax.jit(jax.vmap(method.sample, in_axes=(0, None, None, None)))
    batch = sample(jax.random.split(KEY, 50), jnp.asarray(0), state, data)
    assert set(np.unique(batch.support.labels)) == {0, 2}
    assert gone in np.unique(batch.audit.labels)


SPECS = SMALL.objective.specs


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("harmonize", "both"),
        ("query_sampling", ("uniform", "easy")),
        ("query_sampling", ()),
        ("steps", 0),
        ("learning_rate", -0.1),
        ("support_size", 0),
        ("audit_size", 0),
        ("query_size", 0),
        ("weight_noise", -0.1),
        ("random_label_inner", InnerStep(order=3)),
        ("membership_inner", InnerStep(count=0)),
        ("membership_inner", InnerStep(layers=-1)),
    ],
)
def test_options_out_of_range_are_refused(argument, value):
    with pytest.raises(InputError) as error:
        replace(SMALL, **{argument: value})
    assert error.value.argument == argument
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("name", "pull"),
        ("target_source", "others"),
        ("specs", ()),
        ("specs", (MembershipSpec("loss"),) * 2),
        ("projections", 1),
        ("support", 0),
        ("support", len(SPECS)),
    ],
)
def test_objectives_out_of_range_are_refused(argument, value):
    with pytest.raises(InputError) as error:
        replace(SMALL, objective=replace(SMALL.objective, **{argument: value}))
    assert error.value.argument == argument


@pytest.mark.parametrize(("argument", "value"), [("weight", -1.0), ("size", 0)])
def test_heldout_distillation_out_of_range_is_refused(argument, value):
    with pytest.raises(InputError) as error:
        HeldoutDistillation(**{argument: value})
    assert error.value.argument == argument


def test_too_few_retain_examples_for_the_query_sets_are_refused():
    with pytest.raises(InputError) as error:
        ltu(LINEAR, spec_of(DATA, CLASSES), replace(SMALL, query_sampling=("uniform",) * 11))
    assert error.value.argument == "retain_fraction"


@pytest.mark.parametrize("num_validation", [0, 1])
@pytest.mark.parametrize("build", [ltu, mi_match])
def test_a_single_validation_example_is_refused(build, num_validation):
    spec = spec_of(DATA, CLASSES)._replace(num_validation=num_validation)
    with pytest.raises(InputError) as error:
        build(LINEAR, spec)
    assert error.value.argument == "data"


def test_only_cluster_sampling_clusters_the_outputs(linear_step):
    state, *_ = linear_step
    assert state.source.clusters.shape == (SIZES["retain"],)
    light = ltu(LINEAR, spec_of(DATA, CLASSES), LIGHT).prepare(KEY, VARIABLES, DATA)
    assert light.source.clusters is None


def test_any_objective_can_be_composed_in():
    """The mean logits instead of membership models: their gradient is known."""
    mean_logit = Forgetting(
        init=lambda key, context, size: match_membership(ONE_MODEL.specs).init(key, context, size),
        sample=lambda key, state, rows: (),
        losses=lambda state, draw, logits, labels: logits.mean()[None],
        num_tasks=1,
        num_support=1,
    )
    still = InnerStep(lr=0.0, tune_weight=0.0)
    config = replace(
        QUERIES_ONLY, membership_inner=still, forget_weight=1.0, distill=1.0, harmonize="none"
    )
    method = ltu(LINEAR, spec_of(DATA, CLASSES), config, forgetting=mean_logit)
    state = method.prepare(KEY, VARIABLES, DATA)
    batch = method.sample(KEY, jnp.asarray(0), state, DATA)
    after, _ = method.step(KEY, state, batch)
    moved = after.variables.params["bias"] - VARIABLES.params["bias"]
    np.testing.assert_allclose(moved, -config.learning_rate / CLASSES, rtol=1e-4)


def test_weight_noise_is_relative_to_each_matrix_and_leaves_the_targets():
    params = {"bias": jnp.ones(CLASSES), "wide": jnp.full((200, 300), 2.0)}
    params["wide"] = params["wide"].at[::2].set(-1.0)
    noisy = add_weight_noise(KEY, params, 0.5)
    np.testing.assert_array_equal(noisy["bias"], params["bias"])
    noise = noisy["wide"] - params["wide"]
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(0.5 * 1.5, rel=0.02)

    plain = ltu(LINEAR, spec_of(DATA, CLASSES), LIGHT)
    still = plain.prepare(KEY, VARIABLES, DATA)
    wrapped = with_weight_noise(plain, 0.5).prepare(KEY, VARIABLES, DATA)
    chosen = ltu(LINEAR, spec_of(DATA, CLASSES), replace(LIGHT, weight_noise=0.5))
    assert_trees_close(chosen.prepare(KEY, VARIABLES, DATA), wrapped, rtol=0, atol=0)
    before, after = (state.variables.params["kernel"] for state in (still, wrapped))
    assert not np.allclose(before, after)
    assert_trees_close(wrapped._replace(variables=None), still._replace(variables=None), 0, 0)
