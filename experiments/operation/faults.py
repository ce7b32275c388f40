"""Kill runs, damage what they keep, fill their disk: what comes of it.

    python -m experiments.operation.faults --kills 50 --corruptions 30 --out FILE

A small LTU run on a table (original, unlearned, two Retrains, audit, report) is once left alone.
Then it is ended by SIGKILL at random moments, gone on with by `ltu unlearn --resume`, killed again,
and so on until it gets to its end: every network and every number of its report must be what the
undisturbed run left, wall times excepted. Moments are drawn over a run's length, from its first
file on; one in ten comes before that. Then stopped runs are damaged: a file cut, a bit flipped, a
file lost, checkpoints swapped with another run's. Each must be told in a warning, and the run must
end as if undisturbed. Last come a full and a read-only disk.
"""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import ltu_jax
from experiments.lib.provenance import ROOT, git_state
from ltu_jax.files import file_digests, write_json
from ltu_jax.report.write import versions

NETWORKS = ("original", "retrain", "retrain_2", "unlearned")
METHOD = {"steps": 24, "query_size": 16, "audit_size": 16}
SAVE_EVERY = 5
EARLY, IMPORT_SECONDS = 0.1, 4.0  # share of kills while packages are imported and data are read
LIMIT_BYTES = 100_000  # less than a checkpoint, more than any other file of a run that began


@dataclass(frozen=True)
class Options:
    """Kill and damage runs.

    Attributes:
      kills: how many SIGKILLs.
      corruptions: how many damaged runs.
      seed: of moments and damages.
      out: where the numbers go.
    """

    kills: int = 50
    corruptions: int = 30
    seed: int = 0
    out: Path = ROOT / "experiments/results/faults.json"


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return three blurred classes in six columns: 240 examples to train on, 120 held out."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(3, 6))
    labels = np.arange(360) % 3
    inputs = (centres[labels] + rng.normal(size=(360, 6))).astype(np.float32)
    return inputs[:240], labels[:240], inputs[240:], labels[240:]


def main(args: list[str] | None = None) -> None:
    """Run all and write."""
    options = tyro.cli(Options, args=args)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        work = Path(scratch)
        (work / "method.json").write_text(json.dumps(METHOD), encoding="utf-8")
        finish(work, start_command(work / "first"))  # compiles every program
        begin = time.perf_counter()
        finish(work, start_command(work / "whole"))
        seconds = time.perf_counter() - begin
        expected = outcome(work / "whole")
        kills = kill_runs(work, expected, options.kills, rng)
        stopped = stop_while_saving(work, 0)
        damaged = damage_runs(work, expected, stopped, options.corruptions, rng)
        disks = poor_disks(work, expected, stopped)
    results = {
        "source": {
            "command": f"python -m experiments.operation.faults --kills {options.kills} "
            f"--corruptions {options.corruptions}",
            "git": git_state(),
            "versions": versions(),
        },
        "config": {
            **{name: value for name, value in asdict(options).items() if name != "out"},
            **{"method": METHOD, "save_every": SAVE_EVERY, "undisturbed_seconds": seconds},
        },
        **kills,
        **damaged,
        **disks,
    }
    write_json(options.out, results)
    print(json.dumps({name: results[name] for name in results if name not in ("source", "config")}))


def start_command(run: Path, seed: int = 0) -> list[str]:
    """Return the arguments that begin the run."""
    return (
        f"unlearn --data experiments.operation.faults:table --epochs 6 --method ltu "
        f"--quiet --seed {seed} "
        f"--config {run.parent / 'method.json'} --save-every {SAVE_EVERY} --out {run}"
    ).split()


def resume_command(run: Path) -> list[str]:
    """Return the arguments that go on with the run."""
    return ["unlearn", "--resume", str(run), "--quiet"]


def launch(work: Path, arguments: list[str], **options: Any) -> subprocess.Popen:
    """Start `ltu` in a process of its own; compiled programs are shared among all."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(work / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ltu_jax", *arguments],
        **{"cwd": ROOT, "env": environment, "text": True, **options},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(work: Path, arguments: list[str]) -> None:
    """Run `ltu` to its end.

    Raises:
      RuntimeError: it failed.
    """
    process = launch(work, arguments)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"ltu {' '.join(arguments)}: exit {process.returncode}: {errors}")


def outcome(run: Path) -> dict[str, Any]:
    """Return the bits of every network and all numbers of the report but wall times."""
    from ltu_jax.runs.loading import load_plan
    from ltu_jax.runs.plan import trace
    from ltu_jax.training.checkpoint import restore

    plan = load_plan(run)
    like = trace(plan.model, plan.dataset)
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    for row in report["rows"]:
        row.pop("seconds")
    del report["run"]["command"]  # names the folder
    del report["ledger"]["sha256"]  # of an entry that holds the wall time
    with np.load(run / "scores.npz") as scores:
        digests = {name: values.tobytes() for name, values in scores.items()}
    for name in NETWORKS:
        leaves = _leaves(restore(run / name, like))
        digests[name] = b"".join(leaf.tobytes() for leaf in leaves)
    return {"report": report, **digests}


def kill_runs(
    work: Path, expected: dict[str, Any], kills: int, rng: random.Random
) -> dict[str, Any]:
    """Kill runs until there were so many kills; a kill counts as identical if its run's end is."""
    killed, identical, phases, length = 0, 0, Counter(), None
    while killed < kills:
        run = work / f"killed-{killed}"
        length = length or undisturbed_length(work)
        kills_of_run = 0
        while not ended(run):
            begun = (run / "run.json").exists()
            process = launch(work, resume_command(run) if begun else start_command(run))
            with process:
                if killed + kills_of_run < kills:
                    early = rng.random() < EARLY
                    delay = rng.uniform(0.0, IMPORT_SECONDS if early else length)
                    kill(process, None if early else run, delay)
                errors = process.stderr.read()
            if process.returncode not in (0, -signal.SIGKILL):
                raise RuntimeError(f"{run.name}: exit {process.returncode}: {errors}")
            if process.returncode:
                kills_of_run += 1
                phases[phase_of(run)] += 1
        killed += kills_of_run
        identical += kills_of_run * (outcome(run) == expected)
        shutil.rmtree(run)
    return {"kills": killed, "identical": identical, "killed_in": dict(phases)}


def ended(run: Path) -> bool:
    """Whether the run was begun and has come to its end."""
    return (run / "run.json").exists() and not (run / "running" / "finished.json").exists()


def undisturbed_length(work: Path) -> float:
    """Return the seconds from a run's first file to its end."""
    process = launch(work, start_command(work / "timed"))
    wait_for(work / "timed", process)
    begin = time.perf_counter()
    process.communicate()
    return time.perf_counter() - begin


def kill(process: subprocess.Popen, run: Path | None, delay: float) -> None:
    """Send SIGKILL to a process, unless it comes to its end before that.

    Args:
      process: which one.
      run: whose folder it must have touched first; None does not wait for that.
      delay: seconds to wait after that.
    """
    if run is not None:
        wait_for(run, process)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()


def wait_for(run: Path, process: subprocess.Popen) -> None:
    """Wait until the process has touched the run's folder; importing takes seconds before that."""
    before = _touched(run)
    while process.poll() is None and _touched(run) == before:
        time.sleep(0.005)


def phase_of(run: Path) -> str:
    """Return what a killed run was about: its last line of metrics, or what it had not begun."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    whole = [line for line in lines if line.endswith("}")]
    return json.loads(whole[-1])["phase"] if whole else "start"


def damage_runs(
    work: Path, expected: dict[str, Any], stopped: Path, corruptions: int, rng: random.Random
) -> dict[str, Any]:
    """Damage copies of a stopped run; count what was told of, and what was used all the same."""
    other = stop_while_saving(work, 1)
    damages = [truncate, flip_a_bit, lose, swap]
    recognised, bad, kinds = 0, 0, Counter()
    for number in range(corruptions):
        damage = damages[number % len(damages)]
        run = work / f"damaged-{number}"
        shutil.copytree(stopped, run)
        damage(run, other, rng)
        with Warnings() as told:
            ltu_jax.resume(run, quiet=True)
        recognised += bool(told.lines)
        bad += outcome(run) != expected
        kinds[damage.__name__] += 1
        shutil.rmtree(run)
    return {
        "corruptions": corruptions,
        "recognised": recognised,
        "loaded_bad": bad,
        "corrupted_by": dict(kinds),
    }


def stop_while_saving(work: Path, seed: int) -> Path:
    """Return a run that was killed when two checkpoints of the unlearning were there."""
    run = work / f"stopped-{seed}"
    process = launch(work, start_command(run, seed))
    while len(checkpoints(run)) < 2:
        if process.poll() is not None:
            raise RuntimeError(f"exit {process.returncode} before it was stopped")
        time.sleep(0.002)
    process.kill()
    process.communicate()
    return run


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of the unlearning, oldest first."""
    return sorted(path for path in run.glob("running/unlearned/*") if path.name.isdigit())


def truncate(run: Path, other: Path, rng: random.Random) -> None:
    """Cut a file of a network or a checkpoint."""
    path = _pick(run, rng)
    with path.open("r+b") as file:
        file.truncate(rng.randrange(path.stat().st_size))


def flip_a_bit(run: Path, other: Path, rng: random.Random) -> None:
    """Flip one bit of such a file."""
    path = _pick(run, rng)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def lose(run: Path, other: Path, rng: random.Random) -> None:
    """Delete such a file."""
    _pick(run, rng).unlink()


def swap(run: Path, other: Path, rng: random.Random) -> None:
    """Put the checkpoints of another run in the place of this one's, or its original."""
    part = rng.choice(["running/unlearned", "original"])
    shutil.rmtree(run / part)
    shutil.copytree(other / part, run / part)


def _pick(run: Path, rng: random.Random) -> Path:
    """Return a file that a resumed run would read: of the newest checkpoint or the original."""
    folder = rng.choice([checkpoints(run)[-1], run / "original"])
    return rng.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size))


def poor_disks(work: Path, expected: dict[str, Any], stopped: Path) -> dict[str, Any]:
    """Resume a stopped run on a full and on a read-only disk, then on a good one.

    The disk is one in memory where mounting is permitted; elsewhere a limit on the size of files
    stands for the full one, and the read-only one is left out.
    """
    disk = work / "disk"
    disk.mkdir()
    if not mount(disk, "size=64m"):
        shutil.copytree(stopped, disk / "run")
        return {"full_disk": {"by": "RLIMIT_FSIZE"} | fail(work, disk / "run", LIMIT_BYTES)}
    try:
        shutil.copytree(stopped, disk / "run")
        used = shutil.disk_usage(disk).used
        mount(disk, f"remount,size={used // 1024 + 64}k")
        full = {"by": "tmpfs"} | fail(work, disk / "run")
        mount(disk, "remount,size=64m,ro")
        read_only = {"by": "tmpfs"} | fail(work, disk / "run")
        mount(disk, "remount,rw")
        finish(work, resume_command(disk / "run"))
        identical = outcome(disk / "run") == expected
        return {"full_disk": full, "read_only_disk": read_only, "identical_afterwards": identical}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def mount(disk: Path, options: str) -> bool:
    """Mount a disk in memory, or change its options; return whether that is permitted."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True).returncode == 0


def fail(work: Path, run: Path, limit: int | None = None) -> dict[str, Any]:
    """Resume a run where it cannot be; return how it ended and whether its checkpoints are whole.

    Args:
      work: the scratch folder.
      run: of which checkpoints are there.
      limit: no file may have more bytes.
    """
    before = [file_digests(path) for path in checkpoints(run)]
    process = launch(work, resume_command(run))
    if limit is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    return {
        "exit": process.returncode,
        "error": lines[-1].replace(str(work), "") if lines else None,
        "traceback": "Traceback" in errors,
        "earlier_intact": before == [file_digests(path) for path in checkpoints(run)],
    }


class Warnings(logging.Handler):
    """A context that collects the library's warnings."""

    def __enter__(self) -> Warnings:
        self.lines: list[str] = []
        logging.getLogger("ltu_jax").addHandler(self)
        return self

    def __exit__(self, *error: Any) -> None:
        logging.getLogger("ltu_jax").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        self.lines.append(record.getMessage())


def _leaves(variables: Any) -> list[np.ndarray]:
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves(variables)]


def _touched(run: Path) -> list[int]:
    """Return when a file was last made in, or moved into, the run's folders."""
    return [path.stat().st_mtime_ns for path in (run, run / "running") if path.exists()]


if __name__ == "__main__":
    main()
