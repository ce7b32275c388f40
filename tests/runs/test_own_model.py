"""Someone who knows only the README, with a trained model, data and a list of patients."""

import csv
import json
import shlex
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ltu_jax
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError
from ltu_jax.models import binary_head, nnx_variables
from ltu_jax.runs import pipeline
from ltu_jax.runs import plan as plans
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.spec import InMemory
from ltu_jax.training.checkpoint import restore
from tests import tiny

MODULE = '''
"""A clinic's own network, data and training, as they were before anyone asked to be forgotten."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ltu_jax


class Net(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(6, 16, rngs=rngs)
        self.out = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


def build(num_classes, rngs):
    assert num_classes == 3
    return Net(rngs=rngs)


def load():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 3
    x = (2 * np.eye(3, 6)[y] + rng.normal(size=(200, 6))).astype(np.float32)
    patients = [f"P{row:04d}" for row in range(140)]
    return ltu_jax.from_arrays(
        (x[:140], y[:140]), (x[140:], y[140:]), ids=patients, mean=(0.0,), std=(1.0,)
    )


@nnx.jit
def train_step(net, optimizer, x, y):
    def loss(net):
        return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

    optimizer.update(net, nnx.grad(loss)(net))


def train():
    net, (x, y) = Net(rngs=nnx.Rngs(0)), load().train
    optimizer = nnx.Optimizer(net, optax.adam(3e-2), wrt=nnx.Param)
    for _ in range(60):
        train_step(net, optimizer, jnp.asarray(x), jnp.asarray(y))
    ltu_jax.save_checkpoint("CKPT", net)
'''

UNLEARN = """
ltu unlearn --model my:build --data my:load --checkpoint CKPT --method neggrad_plus
  --forget-ids ids.csv --forget-id-column patient --out RUN --quiet
"""
NEXT = "ltu unlearn --run RUN --forget-ids next.csv --out NEXT --quiet"


@pytest.fixture
def my(tmp_path, monkeypatch):
    """The module `my`, imported from the working directory."""
    (tmp_path / "my.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import my

    yield my
    sys.modules.pop("my")


def run(command):
    program, *arguments = shlex.split(command)
    assert program == "ltu"
    main(arguments)


@pytest.mark.slow
def test_the_ids_of_a_csv_are_unlearned_from_ones_own_network(my, tmp_path, capsys):
    my.train()
    with open("ids.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["ward", "patient"], *([str(row % 2), f"P{row:04d}"] for row in range(0, 140, 10))]
        )

    run(UNLEARN)
    shown = capsys.readouterr().out
    assert "neggrad_plus" in shown
    assert "RUN/unlearned" in shown
    report = json.loads((tmp_path / "RUN" / "report.json").read_text(encoding="utf-8"))
    assert report["run"]["sizes"]["forget"] == 14
    rows = {row["model"]: row for row in report["rows"]}
    assert rows["original"]["ra"] > 80  # it is the network that the clinic trained

    run("ltu audit RUN --quiet")
    verdict = capsys.readouterr().out
    assert "No test that counts" in verdict
    assert "ltu ensemble" in " ".join(verdict.split())

    with open("next.csv", "w", newline="") as file:
        csv.writer(file).writerows([["patient"], *([f"P{row:04d}"] for row in range(1, 140, 10))])
    run(NEXT)
    assert "NEXT/unlearned" in capsys.readouterr().out
    report = json.loads((tmp_path / "NEXT" / "report.json").read_text(encoding="utf-8"))
    assert report["run"]["sizes"]["train"] == 140 - 14
    run("ltu ledger show NEXT")
    shown = capsys.readouterr().out
    assert "neggrad_plus" in shown
    run("ltu ledger verify NEXT")
    ledger = tmp_path / "NEXT" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b"neggrad_plus", b"neggrad_plum", 1))
    with pytest.raises(SystemExit) as stopped:
        run("ltu ledger verify NEXT")
    assert stopped.value.code == 1
    capsys.readouterr()

    net = nnx_variables(my.Net(rngs=nnx.Rngs(0)))
    unlearned = restore(tmp_path / "RUN" / "unlearned", net)
    assert jnp.any(unlearned.params["out"]["kernel"] != net.params["out"]["kernel"])


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(8, name="body")(x)))


@pytest.mark.slow
def test_linen_variables_unlearn_by_their_head_and_are_gone_on_with(tmp_path):
    data = tiny.table()
    variables = {"params": tiny.trained(Linen(), data).params}
    out = tmp_path / "run"
    options = {"reference": "none", "quiet": True}
    result = ltu_jax.unlearn(
        data, tiny.FORGOTTEN, model=Linen(), params=variables, only="head", method="finetune",
        out=out, **options,
    )  # fmt: skip
    body, head = (
        [np.array_equal(*both) for both in zip(*map(jax.tree.leaves, pair))]
        for pair in (
            (result.unlearned.params[name], variables["params"][name]) for name in ("body", "head")
        )
    )
    assert body == [True, True]
    assert head == [False, False]
    assert result.verdict
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["config"]["only"] == ["head/bias", "head/kernel"]
    plan = load_plan(out, InMemory(data, Linen()))
    assert plan.spec.only == ("head/bias", "head/kernel")


@pytest.mark.slow
def test_a_network_in_memory_outlives_a_run_that_is_stopped(tmp_path, monkeypatch):
    data = tiny.table()
    variables = {"params": tiny.trained(Linen(), data).params}
    request = dict(model=Linen(), method="finetune", only=lambda path: "head" in path)
    options = dict(params=variables, reference="none", quiet=True, **request)
    whole = ltu_jax.unlearn(data, out=tmp_path / "whole", **options)

    def stopped(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "unlearned_model", stopped)
        with pytest.raises(SystemExit):
            ltu_jax.unlearn(data, out=tmp_path / "run", **options)
    again = ltu_jax.resume(tmp_path / "run", data=data, model=Linen(), quiet=True)
    jax.tree.map(np.testing.assert_array_equal, again.unlearned, whole.unlearned)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"params": {}}, "params"),
        ({"model": Linen(), "params": {}, "checkpoint": "x"}, "params"),
        ({"model": Linen(), "params": {}}, "params"),
        ({"model": Linen(), "only": "Head"}, "only"),
        ({"model": 3}, "model"),
        ({"model": nnx.Linear}, "model"),
        ({"model": nnx.Linear(6, 3, rngs=nnx.Rngs(0))}, "model"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_compute(workplace, options, argument):
    with pytest.raises(InputError) as caught:
        ltu_jax.unlearn(tiny.table(), tiny.FORGOTTEN, **options)
    assert tiny.argument(caught.value) == argument
    assert "\n" not in str(caught.value)
    assert not list(workplace.iterdir())


def unbalanced(heldout_rare=5):
    """Nineteen of twenty examples are of one class."""
    rng = np.random.default_rng(0)

    def examples(size, rare):
        labels = np.zeros(size, int)
        labels[:: size // rare][:rare] = 1
        labels[np.cumsum(labels) > rare] = 0
        inputs = 2.0 * labels[:, None] + rng.normal(size=(size, 4))
        return inputs.astype(np.float32), labels

    return ltu_jax.from_arrays(
        examples(200, 10), examples(100, heldout_rare), class_names=["well", "ill"], name="rare"
    )


def test_splits_of_unbalanced_data_are_stratified():
    plan = tiny.plan(unbalanced(), ltu_jax.by_fraction(0.1), retain_fraction=0.5)
    train, heldout, split = plan.dataset.train.labels, plan.dataset.heldout.labels, plan.split
    for labels, part, whole in (
        (train, split.accessible, split.retain),
        (heldout, split.validation, np.arange(100)),
        (heldout, split.test, np.arange(100)),
    ):
        expected = labels[whole].mean() * len(part)
        assert abs(labels[part].sum() - expected) < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forget", "options"),
    [
        (ltu_jax.by_class("ill"), {"config": tiny.TINY_LTU, "reference": "none"}),
        ([0, 3, 5], {"method": "finetune"}),
    ],
    ids=["class", "ids"],
)
def test_a_rare_class_that_validation_lacks_breaks_nothing(tmp_path, forget, options):
    data = unbalanced(heldout_rare=1)
    validation = tiny.plan(data, forget).split.validation
    assert data.heldout.labels[validation].sum() == 0
    result = ltu_jax.unlearn(data, forget, **options, epochs=2, quiet=True, out=tmp_path / "run")
    for row in result.metrics.values():
        assert np.isfinite([row.ua, row.ra, row.ta, row.mia]).all()


def test_one_logit_is_told_what_to_do_and_does_it():
    data = unbalanced()
    with pytest.raises(InputError, match=r"logits of shape \[1, 1\].*models\.binary_head"):
        tiny.plan(data, None, model=nn.Dense(1))
    plan = tiny.plan(data, None, model=binary_head(nn.Dense(1)), method="ltu")
    assert plan.model.name == "Dense"


def test_tokens_need_a_network_and_a_method_that_take_them():
    tokens = np.arange(240).reshape(60, 4) % 7
    pair = (tokens, np.arange(60) % 3)
    data = ltu_jax.from_arrays(pair, pair)
    assert data.train.inputs.dtype == np.int32

    class Text(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            return nn.Dense(3)(nn.Embed(7, 4)(tokens).mean(1))

    plan = tiny.plan(data, None, model=Text())
    embed = plan.model.init(jax.random.key(0), data.train.inputs)
    np.testing.assert_array_equal(
        plan.model.apply(embed, data.train.inputs)[0],
        Text().apply({"params": embed.params}, data.train.inputs),
    )
    for method in ("boundary_shrink", "unsir"):
        with pytest.raises(InputError, match="tokens"):
            plans.with_method(plan, method, None)
    for model in (None, "mlp"):
        with pytest.raises(InputError, match="tokens") as caught:
            tiny.plan(data, None, model=model)
        assert caught.value.argument == "model"
