"""Do interrupted and damaged runs end with the same bits as undisturbed ones?

    python -m experiments.operation.faults --kills 50 --corruptions 30

A small LTU run on a table (original, unlearned, two Retrains, audit, report) ends undisturbed once.
Then runs are ended by SIGKILL at random moments and resumed until they end: every model and every
number of the report, wall times excepted, must be the same. One kill in ten comes before the first
file. Then stopped runs are damaged: a file cut, a bit flipped, a file lost, checkpoints swapped
with another run's. Each damage must raise a warning, and the run must end undisturbed. Last, a
limit on the size of files stands in for a full disk. Writes `experiments/results/faults.json`; an
hour on two cores.
"""

from __future__ import annotations

import json
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments.lib.provenance import ROOT, command_source
from ltu_jax.files import file_digests, write_json
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.plan_model import trace
from ltu_jax.training.checkpoint import restore

MODELS = ("original", "retrain", "retrain_2", "unlearned")
METHOD = {"steps": 24, "query_size": 16, "audit_size": 16}
SAVE_EVERY = 5
EARLY, IMPORT_SECONDS = 0.1, 4.0  # share of kills during imports and reading of data
LIMIT_BYTES = 50_000  # less than the largest file of a checkpoint, more than any other file


@dataclass(frozen=True)
class Options:
    """Kill and damage runs.

    Attributes:
      kills: number of SIGKILLs.
      corruptions: number of damaged runs.
      seed: seed of moments and damages.
      out: result file.
    """

    kills: int = 50
    corruptions: int = 30
    seed: int = 0
    out: Path = ROOT / "experiments/results/faults.json"


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return three blurred classes in six columns: 240 training and 120 held-out examples."""
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(3, 6))
    labels = np.arange(360) % 3
    inputs = (centres[labels] + rng.normal(size=(360, 6))).astype(np.float32)
    return inputs[:240], labels[:240], inputs[240:], labels[240:]


def main(args: list[str] | None = None) -> None:
    """Run everything and write the counts."""
    options = tyro.cli(Options, args=args)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        work = Path(scratch)
        (work / "method.json").write_text(json.dumps(METHOD), encoding="utf-8")
        finish(work, start_command(work / "whole"))  # compiles every program as well
        expected = outcome(work / "whole")
        kills = kill_runs(work, expected, options.kills, rng)
        stopped = stop_while_saving(work, 0)
        results = {
            "source": command_source(
                f"operation.faults --kills {options.kills} --corruptions {options.corruptions}"
            ),
            "config": {"kills": options.kills, "seed": options.seed, "method": METHOD},
            **kills,
            **damage_runs(work, expected, stopped, options.corruptions, rng),
            **bad_disks(work, expected, stopped),
        }
    write_json(options.out, results)
    print(json.dumps({name: results[name] for name in results if name not in ("source", "config")}))


def start_command(run: Path, seed: int = 0) -> list[str]:
    """Return the arguments that start the run."""
    return (
        f"unlearn --data experiments.operation.faults:table --epochs 6 --method ltu --quiet "
        f"--seed {seed} --config {run.parent / 'method.json'} --save-every {SAVE_EVERY} --out {run}"
    ).split()


def launch(work: Path, arguments: list[str]) -> subprocess.Popen:
    """Start `ltu` in another process; all processes share compiled programs."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(work / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ltu_jax", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(work: Path, arguments: list[str]) -> str:
    """Run `ltu` to its end and return its stderr.

    Raises:
      RuntimeError: it failed.
    """
    process = launch(work, arguments)
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"ltu {' '.join(arguments)}: exit {process.returncode}: {errors}")
    return errors


def outcome(run: Path) -> dict[str, Any]:
    """Return the bits of every model and all numbers of the report but wall times."""
    plan = load_plan(run)
    like = trace(plan.model, plan.dataset)
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    for row in report["rows"]:
        row.pop("seconds")
    del report["run"]["command"]  # names the folder
    del report["run"]["time"]
    del report["ledger"]["sha256"]  # of an entry that holds the wall time
    with np.load(run / "scores.npz") as scores:
        bits = {name: values.tobytes() for name, values in scores.items()}
    for name in MODELS:
        leaves = jax.tree.leaves(restore(run / name, like))
        bits[name] = b"".join(np.asarray(leaf).tobytes() for leaf in leaves)
    return {"report": report, **bits}


def kill_runs(
    work: Path, expected: dict[str, Any], kills: int, rng: random.Random
) -> dict[str, Any]:
    """Kill runs `kills` times; a kill counts as identical if its run ends like `expected`."""
    killed, identical, phases = 0, 0, Counter()
    begin = time.perf_counter()
    finish(work, start_command(work / "timed"))
    length = max(time.perf_counter() - begin - IMPORT_SECONDS, 1.0)
    while killed < kills:
        run, kills_of_run = work / f"killed-{killed}", 0
        while not ended(run):
            resume = ["unlearn", "--resume", str(run), "--quiet"]
            begun = (run / "run.json").exists()
            with launch(work, resume if begun else start_command(run)) as process:
                if killed + kills_of_run < kills:
                    early = rng.random() < EARLY
                    kill(process, run, rng.uniform(0, IMPORT_SECONDS if early else length), early)
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
    """Whether the run has started and ended."""
    return (run / "run.json").exists() and not (run / "running" / "finished.json").exists()


def kill(process: subprocess.Popen, run: Path, delay: float, early: bool) -> None:
    """Send SIGKILL after some seconds, counted from the first file unless `early`."""

    def touched() -> list[int]:
        return [path.stat().st_mtime_ns for path in (run, run / "running") if path.exists()]

    before = touched()
    while not early and process.poll() is None and touched() == before:
        time.sleep(0.005)
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()


def phase_of(run: Path) -> str:
    """Return the phase in a killed run's last line of metrics; `start` without one."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    complete = [line for line in lines if line.endswith("}")]
    return json.loads(complete[-1])["phase"] if complete else "start"


def damage_runs(
    work: Path, expected: dict[str, Any], stopped: Path, corruptions: int, rng: random.Random
) -> dict[str, Any]:
    """Damage and resume copies of a stopped run; count the warnings and the wrong outcomes."""
    other = stop_while_saving(work, 1)
    damages = [truncate, flip_a_bit, lose, swap]
    recognised, bad, by = 0, 0, Counter()
    for number in range(corruptions):
        damage = damages[number % len(damages)]
        run = work / f"damaged-{number}"
        shutil.copytree(stopped, run)
        damage(run, other, rng)
        # Each warning of damage names a folder of the run.
        recognised += str(run) in finish(work, ["unlearn", "--resume", str(run), "--quiet"])
        bad += outcome(run) != expected
        by[damage.__name__] += 1
        shutil.rmtree(run)
    counts = {"corruptions": corruptions, "recognised": recognised, "loaded_bad": bad}
    return {**counts, "corrupted_by": dict(by)}


def stop_while_saving(work: Path, seed: int) -> Path:
    """Return a run that was killed when unlearning had two checkpoints."""
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
    """Return the checkpoints of unlearning, oldest first."""
    return sorted(path for path in run.glob("running/unlearned/*") if path.name.isdigit())


def truncate(run: Path, other: Path, rng: random.Random) -> None:
    """Cut a file of a model or a checkpoint."""
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
    """Replace the checkpoints of a run, or its original, by those of another run."""
    part = rng.choice(["running/unlearned", "original"])
    shutil.rmtree(run / part)
    shutil.copytree(other / part, run / part)


def _pick(run: Path, rng: random.Random) -> Path:
    """Return a file that a resumed run reads: of the newest checkpoint or the original."""
    folder = rng.choice([checkpoints(run)[-1], run / "original"])
    return rng.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size))


def bad_disks(work: Path, expected: dict[str, Any], stopped: Path) -> dict[str, Any]:
    """Resume a stopped run on a full and on a read-only disk, then on a good one.

    The disk is a file system in memory where mounting is permitted. Elsewhere a limit on the size
    of files replaces the full disk, and the read-only disk is left out.
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
        finish(work, ["unlearn", "--resume", str(disk / "run"), "--quiet"])
        identical = outcome(disk / "run") == expected
        return {"full_disk": full, "read_only_disk": read_only, "identical_afterwards": identical}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def mount(disk: Path, options: str) -> bool:
    """Mount a file system in memory, or change its options; return whether that is permitted."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True).returncode == 0


def fail(work: Path, run: Path, limit: int | None = None) -> dict[str, Any]:
    """Resume a run that cannot write; return how it ended and whether checkpoints are intact.

    Args:
      work: scratch folder.
      run: a run with checkpoints.
      limit: largest size of a file in bytes.
    """
    before = [file_digests(path) for path in checkpoints(run)]
    process = launch(work, ["unlearn", "--resume", str(run), "--quiet"])
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


if __name__ == "__main__":
    main()
