"""Bars on stderr, every step in `metrics.jsonl`."""

import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from ltu_jax.runs import progress as progress_module
from ltu_jax.runs.progress import Progress, TensorBoard, WeightsAndBiases


def advance(progress):
    first = progress.phase("train original", 2)
    second = progress.phase("unlearn (ltu)", 1)
    first(0, {"loss": 2.5, "accuracy": 0.25})
    first(1, {"loss": 1.25, "accuracy": 0.5})
    second(0, {})


def test_every_step_is_one_json_object_with_its_phase(tmp_path, capsys):
    with Progress(tmp_path / "metrics.jsonl", quiet=True) as progress:
        advance(progress)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"phase": "train original", "step": 0, "loss": 2.5, "accuracy": 0.25},
        {"phase": "train original", "step": 1, "loss": 1.25, "accuracy": 0.5},
        {"phase": "unlearn (ltu)", "step": 0},
    ]
    assert capsys.readouterr() == ("", "")


def test_every_phase_has_a_bar_on_stderr_with_its_latest_values(capsys):
    with Progress(None, quiet=False) as progress:
        advance(progress)
    shown = capsys.readouterr()
    assert shown.out == ""
    for text in ("train original", "unlearn (ltu)", "2/2", "1/1", "loss 1.25"):
        assert text in shown.err


def test_what_was_measured_before_a_failure_is_on_disk(tmp_path):
    def fail():
        with Progress(tmp_path / "metrics.jsonl", quiet=True) as progress:
            progress.phase("train", 9)(0, {"loss": 1.0})
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 1.0


def test_json_log_is_one_object_per_line_on_stdout(capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "EVENT_SECONDS", 0.0)
    with Progress(None, quiet=False, log="json") as progress:
        advance(progress)
    shown = capsys.readouterr()
    events = [json.loads(line) for line in shown.out.splitlines()]
    assert shown.err == ""
    assert [event["event"] for event in events] == ["phase", "phase", "step", "step", "step"]
    assert events[0] == {"event": "phase", "phase": "train original", "steps": 2}
    assert events[2]["eta_seconds"] is None  # one step says nothing about the next
    assert events[3] == {
        **{"event": "step", "phase": "train original", "step": 2, "steps": 2},
        **{"eta_seconds": 0.0, "loss": 1.25, "accuracy": 0.5},
    }


def test_json_log_has_at_most_one_step_per_second_and_the_last(capsys):
    with Progress(None, quiet=False, log="json") as progress:
        advance(progress)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.get("step") for event in events] == [None, None, 2, 1]


def test_quiet_silences_bars_and_json(capsys):
    with Progress(None, quiet=True, log="json") as progress:
        advance(progress)
    assert capsys.readouterr() == ("", "")


def test_tensorboard_gets_every_value(tmp_path):
    with Progress(None, quiet=True, trackers=[TensorBoard(tmp_path / "events")]) as progress:
        advance(progress)
    (events,) = (tmp_path / "events").iterdir()
    for name in (b"train_original/loss", b"train_original/accuracy"):
        assert events.read_bytes().count(name) == 2


def test_weights_and_biases_get_numbers_and_nothing_else(tmp_path, monkeypatch):
    log = []
    run = SimpleNamespace(log=log.append, finish=lambda: log.append("finished"))
    made = []
    fake = ModuleType("wandb")
    fake.Settings = dict
    fake.init = lambda **options: made.append(options) or run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tracker = WeightsAndBiases("mine", "run-001", tmp_path)
    with Progress(None, quiet=True, trackers=[tracker]) as progress:
        advance(progress)
    (options,) = made
    assert (options["project"], options["name"]) == ("mine", "run-001")
    assert options["settings"] == {"console": "off", "disable_git": True, "save_code": False}
    first, *_, last, finished = log
    assert first == {
        "train original/step": 0,
        "train original/loss": 2.5,
        "train original/accuracy": 0.25,
    }
    assert (last, finished) == ({"unlearn (ltu)/step": 0}, "finished")


@pytest.mark.parametrize(
    ("option", "package"), [("--tensorboard", "tensorboardX"), ("--wandb mine", "wandb")]
)
def test_a_package_that_is_not_installed_is_named(refused, monkeypatch, option, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == package else find(name)
    )
    line = refused("unlearn", *option.split())
    assert option.split()[0].removeprefix("--") in line
    assert package in line


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that the test sets."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock.now)
    return clock


def remaining(clock, times, total, repeated=0):
    """Return the estimates after steps that end at these times, the first of them step 1."""
    clock.now = 0.0
    estimate = progress_module.Remaining(total, repeated)
    found = []
    for done, clock.now in enumerate(times, start=1):
        found.append(estimate.seconds(done))
    return found


@pytest.mark.parametrize("compiling", [0.0, 3.0, 700.0])
def test_compilation_does_not_count(clock, compiling):
    assert remaining(clock, [compiling + t for t in (0, 2, 4, 6)], 4) == [None, 4.0, 2.0, 0.0]


def test_steps_of_a_checkpoint_do_not_count(clock):
    times = [0.001, 0.002, 0.003, 60.0, 61.0, 62.0]
    assert remaining(clock, times, 10, repeated=3)[-2:] == [5.0, 4.0]
    assert remaining(clock, times, 10, repeated=3)[:4] == [None] * 4


def test_steps_that_arrive_together_are_timed_over_their_calls(clock):
    times = [10.0] * 50 + [15.0] * 50
    assert remaining(clock, times, 150)[50] == pytest.approx(9.9)
