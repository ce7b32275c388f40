"""Preprocessing of a given model, and Retrain by the user's own training or checkpoints."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import ltu_jax
from ltu_jax.errors import InputError
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.spec import InMemory
from tests import tiny


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.layer = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


def fit(key, train_data, eval_data, steps=40):
    """The training of a user, in a few lines of their own."""
    inputs, labels = map(jnp.asarray, train_data)
    assert len(eval_data[0]) == len(eval_data[1]) > 0
    net = Net(rngs=nnx.Rngs(key))
    optimizer = nnx.Optimizer(net, optax.adam(0.05), wrt=nnx.Param)

    def loss(net):
        return optax.softmax_cross_entropy_with_integer_labels(net(inputs), labels).mean()

    for _ in range(steps):
        optimizer.update(net, nnx.grad(loss)(net))
    return net


OPTIONS = {"method": "finetune", "epochs": 1, "quiet": True}


def seen_by(plan):
    """What the model computes of raw inputs: those of the data set, or scaled ones."""
    x = plan.dataset.train.inputs[:4]
    bare = plan.original.params["layer"]["kernel"], plan.original.params["layer"]["bias"]
    return np.allclose(plan.model.apply(plan.original, x)[0], x @ bare[0] + bare[1], atol=1e-4)


def test_a_given_model_gets_its_inputs_as_they_are(tmp_path):
    data = tiny.table()
    trained = fit(jax.random.key(0), data.train, data.heldout)
    ltu_jax.save_checkpoint(tmp_path / "net", trained)
    for given in ({"params": trained}, {"checkpoint": tmp_path / "net"}):
        plan = tiny.plan(data, model=Net, **given)
        assert seen_by(plan)
        assert (plan.spec.mean, plan.spec.std) == ((0.0,), (1.0,))
    assert tiny.plan(data, model=Net).spec.mean == (0.5,)
    assert not seen_by(tiny.plan(tiny.table(mean=(0.5,), std=(0.5,)), model=Net, params=trained))


def test_the_preprocessing_of_a_run_outlives_it(tmp_path):
    data = tiny.table()
    trained = fit(jax.random.key(0), data.train, data.heldout)
    given = {"model": Net, "params": trained, "reference": "none"}
    result = ltu_jax.unlearn(data, tiny.FORGOTTEN, out=tmp_path / "a", **given, **OPTIONS)
    assert result.content.run["given_accuracy"]["train"] > 80
    plan = load_plan(tmp_path / "a", InMemory(data, Net))
    assert plan.dataset.mean == (0.0,)
    after = ltu_jax.unlearn_next(
        tmp_path / "a", ["patient-0001"], data=data, model=Net, reference="none", quiet=True,
        out=tmp_path / "b",
    )  # fmt: skip
    assert load_plan(after.folder, InMemory(data, Net)).dataset.mean == (0.0,)


@pytest.mark.slow
def test_a_function_trains_all_models_of_a_run(tmp_path, monkeypatch):
    calls = []

    def training(key, train_data, eval_data):
        calls.append(len(train_data[1]))
        return fit(key, train_data, eval_data)

    data = tiny.table()
    result = ltu_jax.unlearn(
        data, tiny.FORGOTTEN, model=Net, retrain=training, out=tmp_path / "run", **OPTIONS
    )
    assert calls == [120, 108, 108]
    assert result.metrics["retrain"].ta > 80
    made_by = json.loads((tmp_path / "run" / "report.json").read_text())["run"]["made_by"]
    assert {*made_by} == {"original", "retrain", "retrain_2"}
    assert all("function" in text for text in made_by.values())
    spec = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "retrain" in json.dumps(spec)
    load_plan(tmp_path / "run", InMemory(data, Net))  # a finished run needs no function


def stop(*arguments):
    raise SystemExit


@pytest.mark.slow
def test_a_stopped_run_needs_the_function_again(tmp_path, monkeypatch):
    data, run = tiny.table(), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("ltu_jax.runs.pipeline.unlearned_model", stop)
        with pytest.raises(SystemExit):
            ltu_jax.unlearn(data, tiny.FORGOTTEN, model=Net, retrain=fit, out=run, **OPTIONS)
    with pytest.raises(InputError) as caught:
        ltu_jax.resume(run, data=data, model=Net, quiet=True)
    assert caught.value.argument == "retrain"
    result = ltu_jax.resume(run, data=data, model=Net, retrain=fit, quiet=True)
    assert set(result.metrics) == {"original", "retrain", "retrain_2", "unlearned"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_ready_checkpoints_are_retrain(tmp_path, number):
    data = tiny.table()
    rows = tiny.plan(data, tiny.FORGOTTEN, model=Net).split.retain
    retained = ltu_jax.Examples(data.train.inputs[rows], data.train.labels[rows])
    models = [fit(jax.random.key(n), retained, data.heldout) for n in range(number)]
    paths = [tmp_path / f"retrained-{n}" for n in range(number)]
    for path, model in zip(paths, models, strict=True):
        ltu_jax.save_checkpoint(path, model)
    result = ltu_jax.unlearn(
        data,
        tiny.FORGOTTEN,
        model=Net,
        params=fit(jax.random.key(9), data.train, data.heldout),
        retrain=paths if number == 2 else paths[0],
        out=tmp_path / "run",
        **OPTIONS,
    )
    assert len(result.metrics) == 2 + number
    plan = tiny.plan(data, tiny.FORGOTTEN, model=Net, reference="retrain", retrain=models)
    assert len(plan.retrain) == number


@pytest.mark.parametrize(
    ("retrain", "options"),
    [
        (lambda key, train: None, {}),
        (3, {}),
        ([], {}),
        ({"wrong": np.ones(3)}, {}),
        ("no/such/checkpoint", {}),
        (fit, {"reference": "none"}),
        ([Net(rngs=nnx.Rngs(i)) for i in range(3)], {}),
    ],
)
def test_a_retrain_that_cannot_be_used_is_refused_before_any_compute(retrain, options):
    with pytest.raises(InputError) as caught:
        tiny.plan(model=Net, retrain=retrain, **{"reference": "retrain", **options})
    assert caught.value.argument == "retrain"


def raises(key, train_data, eval_data):
    raise KeyError("weights")


def returns_another_model(key, train_data, eval_data):
    return Linear().init(key, train_data[0])


@pytest.mark.parametrize("function", [raises, returns_another_model])
def test_a_function_that_fails_is_named(tmp_path, function):
    with pytest.raises(InputError) as caught:
        ltu_jax.unlearn(
            tiny.table(), tiny.FORGOTTEN, model=Net, retrain=function, out=tmp_path / "r", **OPTIONS
        )
    assert caught.value.argument == "retrain"


@pytest.mark.slow
def test_retrain_that_is_far_from_the_original_is_warned_of(tmp_path):
    def weak(key, train_data, eval_data):
        inputs, labels = train_data
        return fit(key, (inputs, (labels + 1) % 3), eval_data)

    data = tiny.table()
    result = ltu_jax.unlearn(
        data, tiny.FORGOTTEN, model=Net, params=fit(jax.random.key(0), data.train, data.heldout),
        retrain=weak, out=tmp_path / "run", **OPTIONS,
    )  # fmt: skip
    assert any("Retrain" in warning for warning in result.content.run["warnings"])
