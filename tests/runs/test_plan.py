"""What follows from the arguments, and what is refused before anything is computed."""

import json
import os
from dataclasses import replace

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

import ltu_jax
from ltu_jax import unlearners
from ltu_jax.errors import InputError
from ltu_jax.models import build, from_functions, from_linen, from_nnx
from ltu_jax.runs import plan as plans
from ltu_jax.runs.folder import check_folder, make_folder
from ltu_jax.runs.spec import InMemory, RunSpec
from ltu_jax.training.checkpoint import export
from ltu_jax.types import Examples, Split
from tests import tiny
from tests.refusals import refused


def make(data=None, forget=None, **options):
    return tiny.plan(
        data,
        forget,
        **{"method": "ltu", "config": tiny.TINY_LTU, "reference": "retrain", **options},
    )


def assert_same_split(one: Split, other: Split):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def images(side):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    shape = (side, side) if isinstance(side, int) else side
    pair = (rng.integers(0, 255, (60, *shape, 3), np.uint8), labels)
    return ltu_jax.from_arrays(pair, pair)


def test_the_same_ids_in_any_form_make_the_same_plan(tmp_path):
    (tmp_path / "ids.txt").write_text("\n".join(tiny.FORGOTTEN))
    (tmp_path / "ids.csv").write_text("name,age\n" + "".join(f"{i},7\n" for i in tiny.FORGOTTEN))
    expected = make(forget=tiny.FORGOTTEN).split
    np.testing.assert_array_equal(expected.forget, np.arange(0, 120, 10))
    for forget in (
        np.array(tiny.FORGOTTEN),
        iter(tiny.FORGOTTEN),
        tmp_path / "ids.txt",
        str(tmp_path / "ids.txt"),
        ltu_jax.by_ids(tmp_path / "ids.csv", column="name"),
    ):
        assert_same_split(make(forget=forget).split, expected)


def test_without_a_request_a_random_tenth_is_forgotten():
    plan = make(seed=3)
    assert plan.request == ltu_jax.by_fraction(0.1, seed=3)
    assert len(plan.split.forget) == 12


def test_without_a_request_the_digits_lose_a_class():
    digits = tiny.plan("digits")
    assert digits.request == ltu_jax.by_class("4")
    assert set(digits.dataset.train.labels[digits.split.forget].tolist()) == {4}
    draw = ltu_jax.by_fraction(0.1, seed=3)
    assert tiny.plan("digits", draw).request == draw


def test_a_method_sees_the_accessible_part_and_the_validation_part_alone():
    plan = make()
    seen = plans.visible_data(plan.dataset, plan.split)
    for given, source, rows in (
        (seen.forget, plan.dataset.train, plan.split.forget),
        (seen.retain, plan.dataset.train, plan.split.accessible),
        (seen.validation, plan.dataset.heldout, plan.split.validation),
    ):
        np.testing.assert_array_equal(given.inputs, source.inputs[rows])
        np.testing.assert_array_equal(given.labels, source.labels[rows])
        assert isinstance(given.inputs, jax.Array)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (tiny.table(), "mlp"),
        (images(8), "mlp"),
        (images(16), "cnn"),
        (images((16, 40)), "cnn"),
        (images((40, 9)), "mlp"),
        (images((3, 90)), "mlp"),
    ],
)
def test_the_model_follows_from_the_data(data, name):
    assert make(data).model.name == name


def test_epochs_replace_those_of_the_models_own_recipe():
    assert make(epochs=5).recipe == replace(make().recipe, epochs=5)
    assert make(recipe=ltu_jax.Recipe(batch_size=7), epochs=5).recipe.batch_size == 7


def test_retraining_as_a_method_follows_the_references_recipe():
    plan = make(method="retrain_accessible", config=None, epochs=7)
    assert plan.config.recipe == plan.recipe
    assert plans.with_method(make(epochs=7), "retrain_accessible", None).config.recipe.epochs == 7


def test_a_data_set_of_the_users_own_making_passes_all_checks():
    data = tiny.table()
    data.train.inputs[3, 1] = np.nan
    with pytest.raises(InputError, match=r"NaN .* row 3"):
        make(data)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"data": 3}, "data"),
        ({"train_size": 30}, "train_size"),
        ({"reference": "all"}, "reference"),
        ({"method": "magic"}, "method"),
        ({"seed": -1}, "seed"),
        ({"method": "finetune"}, "config"),
        ({"seed": 2**32}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"epochs": 0}, "epochs"),
        ({"retain_fraction": 0.03}, "retain_fraction"),
        (
            {
                "retain_fraction": 1.0,
                "data": tiny.table(num_train=14),
                "forget": [f"patient-{i:04d}" for i in range(11)],
            },
            "data",
        ),
        ({"data": tiny.table(num_heldout=2)}, "data"),
        ({"data": tiny.table(num_heldout=3)}, "data"),
    ],
)
def test_bad_arguments_are_named(options, argument):
    with pytest.raises(InputError) as caught:
        make(**options)
    assert tiny.argument(caught.value) == argument


class NeedsImages(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        batch, _height, _width, _channels = inputs.shape
        return nn.Dense(3)(inputs.reshape([batch, -1]))


class NeedsSeven(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return inputs @ self.param("kernel", nn.initializers.zeros, (7, 3))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (from_linen(NeedsImages(), name="own"), "[1, 6]"),
        (from_linen(NeedsSeven(), name="own"), "[1, 6]"),
        (from_nnx(lambda rngs: nnx.Linear(7, 3, rngs=rngs), name="own"), "[1, 6]"),
        (from_linen(nn.Dense(4), name="own"), "[1, 4]"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(model, shape):
    with pytest.raises(InputError) as caught:
        make(model=model)
    assert caught.value.argument == "model"
    assert "own" in caught.value.problem
    assert shape in caught.value.problem


def test_the_checkpoint_is_read_into_the_plan(tmp_path):
    plan = make()
    variables = tiny.trained(build("mlp", 3))
    export(tmp_path / "net", variables)
    restored = make(checkpoint=tmp_path / "net").original
    jax.tree.map(np.testing.assert_array_equal, restored, variables)
    assert plan.original is None


def test_checking_a_folder_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (None, "new", tmp_path / "deep" / "er"):
        check_folder(out)
    (tmp_path / "empty").mkdir()
    check_folder("empty")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_a_default_folder_that_cannot_be_made_is_found_early(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"^out: .*runs.*Not a directory"):
        check_folder(None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
@pytest.mark.parametrize(("mode", "inside"), [(0o500, "run"), (0o000, ""), (0o000, "run/deeper")])
def test_a_folder_without_permission_is_named(tmp_path, mode, inside):
    (tmp_path / "locked").mkdir(mode=mode)
    with pytest.raises(InputError, match=r"^out: .*locked.*Permission denied"):
        check_folder(tmp_path / "locked" / inside)
    (tmp_path / "locked").chmod(0o700)


def test_default_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [str(make_folder(None, name)) for name in ("a-ltu", "a-ltu", "m:f/1-ltu", "a-ltu")]
    assert made == ["runs/a-ltu-001", "runs/a-ltu-002", "runs/m-f-1-ltu-001", "runs/a-ltu-003"]
    assert all((tmp_path / folder).is_dir() for folder in made)


def test_a_link_to_nothing_is_not_a_place_for_a_run(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for out in (tmp_path / "link", tmp_path / "link" / "run"):
        with refused("out", str(out)):
            check_folder(out)


def test_numbers_of_numpy_are_numbers():
    spec = RunSpec(
        data=None,
        retain_fraction=np.float32(0.5),
        epochs=np.int16(3),
        seed=np.uint8(7),
        recipe=ltu_jax.Recipe(learning_rate=np.float32(0.5)),
    )
    plan = plans.make_plan(
        spec, objects=InMemory(tiny.table(), config=ltu_jax.LTUConfig(steps=np.int64(3)))
    )
    assert RunSpec.from_json(json.loads(json.dumps(plan.spec.to_json()))) == plan.spec
    assert (plan.spec.epochs, plan.spec.options) == (None, {"steps": 3})


def test_the_named_folder_is_made_with_its_parents(tmp_path):
    assert make_folder(tmp_path / "a" / "b", "x").path == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


class Guarded:
    """An array of which nothing but some rows may be read."""

    def __init__(self, array, rows):
        self.array, self.rows = array, set(rows.tolist())
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows):
        assert set(np.asarray(rows).tolist()) <= self.rows, "read what is not its own"
        return self.array[rows]

    def __array__(self, *args, **kwargs):
        raise AssertionError("read everything")


@pytest.mark.parametrize("name", unlearners.METHODS)
def test_no_method_is_given_more_than_forget_accessible_and_validation(name):
    plan = make(forget=tiny.FORGOTTEN, model=with_kernels())
    visible = np.concatenate([plan.split.forget, plan.split.accessible])
    guarded = [
        Examples(*(Guarded(array, rows) for array in examples))
        for examples, rows in (
            (plan.dataset.train, visible),
            (plan.dataset.heldout, plan.split.validation),
        )
    ]
    dataset = plan.dataset._replace(train=guarded[0], heldout=guarded[1])
    data = plans.visible_data(dataset, plan.split)
    assert len(data.forget.labels) + len(data.retain.labels) == len(visible)
    built = plans.with_method(
        plan._replace(problem=plan.problem._replace(dataset=dataset)), name, None
    )
    assert built.unlearner.num_steps >= 0
    with pytest.raises(AssertionError, match="not its own"):
        plans.on_device(dataset.train, plan.split.retain)


def with_kernels():
    """A network that has what every method looks for: a convolution kernel and a head."""

    def init(key, inputs):
        return {"conv": {"kernel": jax.random.normal(key, (2, 2, 1, 4))}, "head": head(key)}

    def head(key):
        return {"kernel": jax.random.normal(key, (4, 3)), "bias": np.zeros(3, np.float32)}

    def apply(params, inputs):
        hidden = inputs[:, :4] @ params["conv"]["kernel"].reshape(4, 4)
        return hidden @ params["head"]["kernel"] + params["head"]["bias"]

    return from_functions(init, apply, name="with_kernels")
