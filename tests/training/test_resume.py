"""A resumed run equals an uninterrupted one bit by bit; damaged checkpoints are never used."""

import gc
import json
import os
import resource
import shutil
import signal
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ltu_jax
from ltu_jax.files import PART
from ltu_jax.runs.plan import on_device, visible_data
from ltu_jax.training import loop, supervised
from ltu_jax.training.checkpoint import ABOUT
from ltu_jax.training.resume import Saver, exit_on_signals
from ltu_jax.training.steps import Step
from tests import tiny
from tests.runs.test_plan import make

NUM_STEPS = 12


class Killed(Exception):
    """The end of a process without warning."""


def kill_at(last):
    """Return an `on_info` that ends the run when it receives step `last`."""

    def on_info(step, info):
        if step == last:
            raise Killed

    return on_info


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
            first, second = jax.random.key_data(first), jax.random.key_data(second)
        np.testing.assert_array_equal(first, second)


# A small loop: its state has a typed key, an integer, an empty array and a matrix.
START = {
    "key": jax.random.key(7),
    "count": jnp.array(0),
    "none": jnp.zeros((0, 3)),
    "weights": jnp.linspace(0.0, 1.0, 6).reshape(2, 3),
}


def draw(key, t, state, data):
    return t, data


def walk_step(key, state, batch):
    t, data = batch
    inner, used = jax.random.split(state["key"])
    move = jax.random.normal(key, (2, 3)) + jax.random.normal(used, (2, 3)) + data
    weights = 0.9 * state["weights"] + move
    new = {**state, "key": inner, "count": state["count"] + t, "weights": weights}
    return new, {"mean": weights.mean(), "t": t}


def walk(saver=None, on_info=None, key=0, steps_per_call=None):
    return loop.run(
        Step(draw, walk_step),
        START,
        jnp.array(0.5),
        key=jax.random.key(key),
        num_steps=NUM_STEPS,
        on_info=on_info,
        saver=saver,
        steps_per_call=steps_per_call,
    )


def saver(folder, config="walk", every=4):
    return Saver(folder, config, every)


def stop_in_the_middle(folder, config="walk", key=0):
    """Leave the checkpoints of steps 4 and 8."""
    with pytest.raises(Killed), saver(folder, config) as saving:
        walk(saving, kill_at(9), key)
    assert sorted(path.name for path in folder.iterdir()) == ["000000004", "000000008"]


def test_a_resumed_loop_gives_the_same_bits(tmp_path):
    expected = walk()
    stop_in_the_middle(tmp_path / "walk")
    received = []
    with saver(tmp_path / "walk") as saving:
        found = walk(saving, lambda t, info: received.append((t, info["mean"])))
        assert saving.seconds_before > 0
    assert_equal(found[0], expected[0])
    assert_equal(found[1], expected[1])
    assert received == list(enumerate(expected[1]["mean"].tolist()))


def test_only_the_steps_after_the_checkpoint_are_taken(tmp_path):
    stop_in_the_middle(tmp_path)
    taken = []

    class Counting(Saver):
        def due(self, step, num_steps):
            taken.append(step)
            return super().due(step, num_steps)

    with Counting(tmp_path, "walk", every=4) as saving:
        walk(saving)
    assert taken == [9, 10, 11, 12]


def test_steps_in_one_compiled_call_are_saved_at_its_end(tmp_path):
    expected = walk(steps_per_call=5)
    with pytest.raises(Killed), saver(tmp_path) as saving:
        walk(saving, kill_at(11), steps_per_call=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000005", "000000010"]
    with saver(tmp_path) as saving:
        assert_equal(walk(saving, steps_per_call=5), expected)


@pytest.mark.parametrize("last", [0, 5])
def test_a_resumed_training_gives_the_same_bits(tmp_path, last):
    plan = make(forget=tiny.FORGOTTEN, recipe=ltu_jax.Recipe(epochs=2, batch_size=32))
    examples = on_device(plan.dataset.train, np.arange(120))

    def train(**options):
        return supervised.train(plan.model, examples, plan.recipe, key=jax.random.key(3), **options)

    expected = train()
    with pytest.raises(Killed), saver(tmp_path, every=2) as saving:
        train(saver=saving, on_info=kill_at(last))
    with saver(tmp_path, every=2) as saving:
        assert_equal(train(saver=saving), expected)
        assert (saving.seconds_before > 0) == (last > 2)


def test_a_resumed_ltu_gives_the_same_bits(tmp_path):
    plan = make(forget=tiny.FORGOTTEN)
    original = plan.model.init(jax.random.key(0), plan.dataset.train.inputs[:1])
    data = visible_data(plan.dataset, plan.split)

    def unlearn(**options):
        return loop.unlearn(plan.unlearner, original, data, key=jax.random.key(1), **options)

    expected = unlearn()
    with pytest.raises(Killed), saver(tmp_path, every=1) as saving:
        unlearn(saver=saving, on_info=kill_at(1))
    kept = json.loads((max(tmp_path.iterdir()) / ABOUT).read_text(encoding="utf-8"))
    for part in ("variables.params", "opt_state", "forgetting", "teacher"):
        assert any(name.startswith(f".inner.{part}") for name in kept["state"])
    with saver(tmp_path, every=1) as saving:
        assert_equal(unlearn(saver=saving), expected)
        assert saving.seconds_before > 0


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def truncate(folder, path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder, path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lose(folder, path):
    path.unlink()


def swap(folder, path):
    """Put the checkpoint of another key's run there."""
    shutil.rmtree(folder)
    stop_in_the_middle(folder.parent / "other", key=1)
    os.replace(folder.parent / "other" / folder.name, folder)


def of_other_settings(folder, path):
    shutil.rmtree(folder)
    stop_in_the_middle(folder.parent / "other", config="walk, otherwise")
    os.replace(folder.parent / "other" / folder.name, folder)


def rename(folder, path):
    """Copy the earlier checkpoint over the later one."""
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "000000004", folder)


@pytest.mark.parametrize("damage", [truncate, flip, lose])
def test_damage_to_any_file_is_recognised_and_the_older_checkpoint_taken(tmp_path, damage, caplog):
    stop_in_the_middle(tmp_path / "whole")
    paths = [path.relative_to(tmp_path) for path in files(tmp_path / "whole" / "000000008")]
    assert len(paths) >= 8
    for i, path in enumerate(paths):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder / "000000008", folder / path.relative_to("whole"))
        caplog.clear()
        restored = saver(folder).restore(START, jax.random.key(0))
        assert restored.step == 4, path
        assert restored.infos[3]["t"] == 3
        (line,) = caplog.messages
        assert line.startswith(f"checkpoint {folder / '000000008'} is not used: ")
        assert "\n" not in line


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (swap, "holds the state of another run"),
        (of_other_settings, "belongs to another run or to other settings"),
        (rename, "is the checkpoint of step 4"),
    ],
)
def test_a_checkpoint_of_another_run_is_recognised(tmp_path, damage, reason, caplog):
    expected = walk()
    stop_in_the_middle(tmp_path)
    damage(tmp_path / "000000008", None)
    with saver(tmp_path) as saving:
        assert_equal(walk(saving), expected)
    assert [line.endswith(reason) for line in caplog.messages] == [True]


def test_without_a_valid_checkpoint_the_run_starts_again(tmp_path, caplog):
    expected = walk()
    stop_in_the_middle(tmp_path)
    for folder in list(tmp_path.iterdir()):
        flip(folder, folder / ABOUT)
    with saver(tmp_path) as saving:
        assert_equal(walk(saving), expected)
    assert len(caplog.messages) == 2


def test_a_state_of_another_structure_is_refused(tmp_path, caplog):
    stop_in_the_middle(tmp_path)
    like = {**START, "weights": jnp.zeros((3, 2))}
    assert saver(tmp_path).restore(like, jax.random.key(0)).step == 0
    assert len(caplog.messages) == 2


def test_two_checkpoints_are_kept_and_half_written_ones_removed(tmp_path):
    (tmp_path / f"{PART}000000003" / "arrays").mkdir(parents=True)
    (tmp_path / f"{PART}000000003.orbax-checkpoint-tmp").mkdir()
    with saver(tmp_path, every=1) as saving:
        walk(saving)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000010", "000000011"]


def test_sigterm_saves_the_current_step_and_exits_with_143(tmp_path, caplog):
    expected, before = walk(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, saver(tmp_path, every=100) as saving:
        walk(saving, lambda t, info: t == 5 and os.kill(os.getpid(), signal.SIGTERM))
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in tmp_path.iterdir()] == [
        "000000007"
    ]  # the callback runs a step late
    assert caplog.messages == ["stopped by SIGTERM; 7 steps are saved"]
    with saver(tmp_path) as saving:
        assert_equal(walk(saving), expected)


@pytest.mark.parametrize(
    ("number", "ends_with"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGHUP, SystemExit)]
)
def test_ctrl_c_and_the_end_of_a_session_save_the_state_too(tmp_path, number, ends_with):
    before = signal.getsignal(number)
    if number == signal.SIGHUP:
        signal.signal(number, lambda *args: None)  # pytest may run under nohup
    with pytest.raises(ends_with), saver(tmp_path, every=100) as saving:
        walk(saving, lambda t, info: t == 5 and os.kill(os.getpid(), number))
    signal.signal(number, before)
    assert [path.name for path in tmp_path.iterdir()] == ["000000007"]
    with saver(tmp_path) as saving:
        assert_equal(walk(saving), walk())


def test_a_second_ctrl_c_does_not_wait_for_the_step(tmp_path):
    def press(step, info):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), saver(tmp_path, every=100) as saving:
        walk(saving, press)
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with saver(tmp_path) as saving:
            os.kill(os.getpid(), signal.SIGINT)
            assert_equal(walk(saving), walk())
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigterm_outside_of_a_loop_exits_with_143():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped, exit_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@contextmanager
def no_file_above(size):
    """Have the system refuse to write files of more bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Orbax abandons the coroutines of a failed write.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_stops_the_run_and_leaves_earlier_checkpoints(tmp_path):
    stop_in_the_middle(tmp_path)
    before = [path.read_bytes() for path in files(tmp_path)]

    def save_two():
        with saver(tmp_path, every=1) as saving:
            restored = saving.restore(START, jax.random.key(0))
            with no_file_above(16):
                saving.save(9, restored.state, jax.random.key(0), restored.infos)
                saving.save(10, restored.state, jax.random.key(0), restored.infos)

    with pytest.raises(OSError, match=r"000000009|File too large"):
        save_two()
    gc.collect()  # so that what Orbax abandoned is reported here and not in a later test
    assert [path.read_bytes() for path in files(tmp_path)] == before
    with saver(tmp_path) as saving:  # clears away what those coroutines may have left
        assert saving.restore(START, jax.random.key(0)).step == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000004", "000000008"]
