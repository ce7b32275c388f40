"""`--dry-run` announces what the deletion then does."""

import json
from dataclasses import replace

import pytest

from ltu_jax import unlearners
from ltu_jax.cli.main import main
from ltu_jax.runs.dry_run import forecast, lines, training_flops, unlearning_flops
from ltu_jax.runs.models import training_steps
from tests import tiny

DRY = ["--data", "tests.tiny:table", "--epochs", "2", "--dry-run"]


@pytest.fixture
def plan():
    return tiny.plan(tiny.table(), tiny.FORGOTTEN, method="finetune", reference="retrain", epochs=2)


@pytest.mark.slow
def test_sizes_and_steps_are_those_of_the_run(complete):
    plan = tiny.plan(
        tiny.table(),
        tiny.FORGOTTEN,
        method="ltu",
        config=tiny.TINY_LTU,
        reference="retrain",
        epochs=2,
    )
    work = forecast(plan)
    report = json.loads((complete.folder / "report.json").read_text())
    for part, size in report["run"]["sizes"].items():
        assert work.sizes[part] == size
    metrics = [json.loads(x) for x in (complete.folder / "metrics.jsonl").read_text().splitlines()]
    done = {}
    for step in metrics:
        done[step["phase"]] = done.get(step["phase"], 0) + 1
    assert {phase.name: phase.steps for phase in work.phases} == {
        name: count for name, count in done.items() if name != "audit"
    }


def test_operations_of_training_are_those_of_its_products(plan):
    # 6 x 64 x 64 x 3 weights or so: a forward and a backward pass take 3 products of each.
    flops, steps = training_flops(plan, "retrain"), training_steps(plan, "retrain")
    weights = sum(
        x.size for x in _leaves(plan.model.init, plan.dataset.train.inputs[:1]) if x.ndim == 2
    )
    products = steps * 3 * 2 * min(plan.recipe.batch_size, 108) * weights
    assert products < 1.2 * flops < 2 * products


def _leaves(init, inputs):
    import jax

    return jax.tree.leaves(init(jax.random.key(0), inputs).params)


def test_a_method_without_steps_has_no_operations_to_count(plan):
    work = forecast(tiny.plan(tiny.table(), tiny.FORGOTTEN, method="ssd"))
    assert work.ratio is None
    assert "not counted" in lines(work)[-1]
    assert unlearning_flops(plan) > 0


def test_trials_are_counted_and_a_given_model_is_not_trained(plan):
    spec = replace(plan.spec, reference="none")
    work = forecast(plan._replace(original=object(), spec=spec), trials=3)
    (choosing, deletion) = work.phases
    assert (choosing.name, choosing.steps) == ("choose options (finetune)", 3)
    assert choosing.flops == 3 * deletion.flops


@pytest.mark.parametrize("command", ["unlearn", "tune"])
def test_the_command_prints_everything_and_writes_nothing(workplace, capsys, command, monkeypatch):
    method = replace(unlearners.METHODS["ltu"], config=tiny.TINY_LTU)
    monkeypatch.setitem(unlearners.METHODS, "ltu", method)
    main([command, *DRY, "--forget-class", "ill"])
    shown = capsys.readouterr()
    assert shown.err == ""
    for text in ("all that belong to class “ill”", "forget 40", "inaccessible 56", "steps=3"):
        assert text in shown.out
    assert ("choose options (ltu)" in shown.out) == (command == "tune")
    assert "times the operations of one retraining" in shown.out
    assert list(workplace.iterdir()) == []


def test_json_log_is_one_line(workplace, capsys):
    main(["unlearn", *DRY, "--method", "finetune", "--log", "json"])
    work = json.loads(capsys.readouterr().out)
    assert work["event"] == "dry_run"
    assert work["sizes"]["train"] == 120
    assert work["phases"][0]["name"] == "train original"


def test_bad_input_is_refused_as_in_a_run(refused):
    assert "--forget-class" in refused("unlearn", *DRY, "--forget-class", "nobody")
    assert "--retain-fraction" in refused("unlearn", *DRY, "--retain-fraction", "2")
