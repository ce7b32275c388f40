"""What do steps, ensembles and whole deletions cost?

    python -m experiments.performance.benchmark
    python -m experiments.performance.benchmark --quick --out FILE

Programs are compiled ahead of time and run in turn with what they are compared with, in one
process, each once before any clock runs. Seconds are medians; a ratio has minimum, median and
maximum over rounds. Steps are compared with PyTorch where it is installed (pip install torch).
Everything runs on any backend. Parts that were measured one by one go into one file:

    python -m experiments.performance.benchmark --parts sgd_step --models cnn
    python -m experiments.performance.benchmark --parts sgd_step --models vit_tiny --add
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import tyro

from experiments.lib.provenance import ROOT, git_state
from experiments.performance import (
    compiling,
    deletion,
    ensembles,
    first_report,
    forms,
    growth,
    imports,
    meta,
    operations,
    profiles,
    programs,
    steps,
    table,
)
from experiments.performance.subjects import MODELS, subject
from ltu_jax.files import write_json
from ltu_jax.report.write import versions

Part = Literal[
    "ltu_step", "sgd_step", "profile", "methods", "variants", "compiler", "harmonizer",
    "memory", "ensemble", "rte", "growth", "import_seconds", "operations", "compile",
    "requests", "trials", "first_report",
]  # fmt: skip
QUICK: tuple[Part, ...] = (
    "ltu_step", "sgd_step", "ensemble", "rte", "import_seconds", "operations", "requests",
    "trials", "first_report",
)  # fmt: skip
FIGURE = ROOT / "docs/cost.png"
# On a CPU, ResNet-18 and the vision transformer take seconds for what others do in milliseconds.
SHARES = {
    False: {"resnet18": 1 / 4},
    True: {"resnet20": 1 / 8, "resnet18": 1 / 16, "vit_tiny": 1 / 16},
}


@dataclass(frozen=True)
class Options:
    """Measure and count what unlearning costs.

    Attributes:
      quick: small batches, short trainings and few sizes, about ten minutes.
      out: where the numbers go.
      parts: which entries; by default all, and in a quick run those of `QUICK`.
      add: keep the parts and networks that the file already holds, of the same commit.
      models: the networks of `ltu_step`, `sgd_step`, `profile`, `compiler` and `compile`.
      method: of `requests` and `trials`.
      model: the network of `methods`, `variants` and `rte`, and of a quick run's `profile`.
      memory_model: the network of `memory`; None is `resnet18`, and `model` in a quick run, since
        four of its programs take minutes to compile.
      repeats: rounds in which everything that is compared is timed.
      threads: of PyTorch, which is also timed with one; JAX takes all cores.
      data_dir: TFDS data with CIFAR-10, for `rte`; noise of the same shape where there is none.
    """

    quick: bool = False
    out: Path = ROOT / "experiments/results/benchmark.json"
    parts: tuple[Part, ...] | None = None
    add: bool = False
    models: tuple[str, ...] = MODELS
    method: str = "ltu"
    model: str = "cnn"
    memory_model: str | None = None
    repeats: int = 5
    threads: int = 2
    data_dir: str | None = None


def main(args: list[str] | None = None) -> None:
    """Measure, print, write."""
    options = tyro.cli(Options, args=args)
    if options.parts is None:
        options = replace(options, parts=QUICK if options.quick else get_args(Part))
    load_before = os.getloadavg()[0]
    peer = load_peer((1, options.threads))
    results: dict[str, Any] = {
        "source": {
            "command": command(options),
            "git": git_state(),
            "versions": {**versions(), "torch": torch_version()},
        },
        "config": {
            **{name: value for name, value in asdict(options).items() if name != "out"},
            "data_dir": options.data_dir is not None,
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "compilation_cache": jax.config.jax_compilation_cache_dir is not None,
            "cores": os.cpu_count(),
            "load_before": load_before,
            "shares": {name: share(name, options.quick) for name in options.models},
        },
    }
    if options.add and options.out.exists():
        results = added(json.loads(options.out.read_text(encoding="utf-8")), results)
    for name, measure in measures(options, peer).items():
        if name in options.parts:
            print(f"measuring {name}", flush=True)
            found = measure()
            both = options.add and isinstance(found, dict)
            results[name] = {**results.get(name, {}), **found} if both else found
            write_json(options.out, results)  # what is done stays, should a later part fail
    if "growth" in results and not options.quick:
        growth.draw(results["growth"], FIGURE)
    print(table.tables(results))


def added(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the results of a file, to which those of another command are added.

    Raises:
      SystemExit: they are of another commit.
    """
    commits = [results["source"]["git"] for results in (before, now)]
    if commits[0] != commits[1]:
        raise SystemExit(f"the file holds results of {commits[0]}, not of {commits[1]}")
    commands = [results["source"]["command"] for results in (before, now)]
    source = {**now["source"], "command": "; ".join(dict.fromkeys(commands))}
    return {**before, "source": source, "config": now["config"]}


def command(options: Options) -> str:
    """Return the command line that measures the same again."""
    line = "python -m experiments.performance.benchmark"
    line += " --quick" if options.quick else ""
    if options.parts != (QUICK if options.quick else get_args(Part)):
        line += f" --parts {' '.join(options.parts)}"
    if options.models != MODELS:
        line += f" --models {' '.join(options.models)}"
    line += " --add" if options.add else ""
    line += f" --method {options.method}" if options.method != "ltu" else ""
    line += f" --repeats {options.repeats}" if options.repeats != 5 else ""
    return line + (" --data-dir DIR" if options.data_dir else "")


def measures(options: Options, peer: Peer) -> dict[str, Callable[[], Any]]:
    """Return how each part is measured."""
    repeats = options.repeats
    one = partial(subject, options.model, share(options.model, options.quick))
    large = options.memory_model or (options.model if options.quick else "resnet18")

    def ltu_step(name: str) -> dict[str, Any]:
        batches = share(name, options.quick)
        # Most of a quick run is compiling: what takes longest has its second order alone.
        both = not options.quick or batches == 1.0
        return steps.ltu_step(subject(name, batches), repeats, peer.ltu_ways, with_first_order=both)

    return {
        "ltu_step": lambda: {name: ltu_step(name) for name in options.models},
        "sgd_step": lambda: {
            name: steps.sgd_step(subject(name, share(name, options.quick)), repeats, peer.sgd_ways)
            for name in options.models
        },
        "profile": lambda: {
            name: profiles.profile(name, share(name, options.quick))
            for name in ((options.model,) if options.quick else options.models)
        },
        "methods": lambda: meta.methods(one(), repeats),
        "variants": lambda: meta.variants(one(), repeats),
        "compiler": lambda: {
            name: forms.compiler(subject(name, share(name, options.quick)), repeats)
            for name in options.models
        },
        "harmonizer": lambda: forms.harmonizer(10_000 if options.quick else 300_000, repeats),
        "memory": lambda: meta.memory(subject(large, share(large, options.quick))),
        "ensemble": lambda: ensembles.ensemble(ensembles.sizes(options.quick), repeats),
        "rte": lambda: deletion.rte(
            options.model,
            options.data_dir,
            repeats,
            wall_share=0.05 if options.quick else 1.0,
            fractions=deletion.FRACTIONS[-1:] if options.quick else deletion.FRACTIONS,
        ),
        "growth": lambda: growth.growth(growth.QUICK if options.quick else growth.FULL, repeats),
        "import_seconds": lambda: imports.import_seconds(repeats),
        "operations": lambda: peer.operations(repeats),
        "compile": lambda: {
            name: compiling.compiling(name, share(name, options.quick), min(repeats, 3))
            for name in options.models
        },
        "requests": lambda: programs.requests(
            options.method, programs.SIZES[1::2] if options.quick else programs.SIZES
        ),
        "trials": lambda: programs.trials(options.method, 3 if options.quick else 24),
        "first_report": lambda: first_report.first_report(
            1 if options.quick else repeats, ["--reference", "none"] if options.quick else []
        ),
    }


def share(model: str, quick: bool) -> float:
    """Return which share of LTU's default batches a network is measured with."""
    return SHARES[quick].get(model, 1.0) if jax.default_backend() == "cpu" else 1.0


class Peer(NamedTuple):
    """PyTorch's ways of three parts; without PyTorch there are none."""

    ltu_ways: Callable[..., Mapping] = lambda *arguments: {}
    sgd_ways: Callable[..., Mapping] = lambda *arguments: {}
    operations: Callable[..., Mapping] = lambda repeats: {}


def load_peer(threads: Sequence[int]) -> Peer:
    """Return PyTorch's steps for each number of threads; none, and a line, without PyTorch."""
    if torch_version() is None:
        print("PyTorch is not installed; its columns stay empty: pip install torch")
        return Peer()
    from experiments.performance import pytorch_peer

    threads = sorted(set(threads))
    return Peer(
        partial(pytorch_peer.ltu_ways, threads),
        partial(pytorch_peer.sgd_ways, threads),
        partial(operations.operations, threads[-1]),
    )


def torch_version() -> str | None:
    """Return the version of PyTorch; None where it is not installed."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
