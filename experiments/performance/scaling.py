"""The collectives of a sharded LTU step: how many messages and bytes it sends between devices.

    python -m experiments.performance.scaling

Compiles one step of LTU on a ResNet-18, with images of 32 x 32, for eight devices that are really
one CPU, and reads from the compiled program what is sent. Only the compiler's merging of messages
depends on the kind of device. Writes `experiments/results/scaling.json`; some minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from experiments.lib.provenance import ROOT, git_state
from ltu_jax.files import write_json
from ltu_jax.models import build, with_preprocessing
from ltu_jax.report.write import versions
from ltu_jax.training.devices import over_devices
from ltu_jax.training.loop import compile_step
from ltu_jax.types import Examples, UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import LTUConfig, Memory, ltu

CLASSES = 10
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}


@dataclass(frozen=True)
class Options:
    """Count what a sharded LTU step sends.

    Attributes:
      model: a built-in network that takes images.
      devices: to compile for.
      micro_batches: pieces of each device's share; each number is compiled.
      batch: examples of the support, the audit and each of the three query sets.
      out: where the numbers go.
    """

    model: str = "resnet18"
    devices: int = 8
    micro_batches: tuple[int, ...] = (1, 2)
    batch: int = 64
    out: Path = ROOT / "experiments/results/scaling.json"


class Traffic(NamedTuple):
    """Collectives of one kind in one step.

    Attributes:
      count: how many are executed.
      bytes: of their results, on one device, in all.
    """

    count: int
    bytes: int


def main(args: list[str] | None = None) -> None:
    """Compile, count, model, write."""
    options = tyro.cli(Options, args=args)
    jax.config.update("jax_num_cpu_devices", options.devices)
    programs = {pieces: compile_sharded(options, pieces) for pieces in options.micro_batches}
    first = programs[options.micro_batches[0]]
    moved = {pieces: traffic(program.as_text()) for pieces, program in programs.items()}
    # Loops' bodies count once in XLA's sum, so it is only right for a step in one piece.
    flops = float(first.cost_analysis()["flops"])
    results = {
        "config": {**asdict(options), "out": options.out.name},
        "temporary_bytes": {
            pieces: program.memory_analysis().temp_size_in_bytes
            for pieces, program in programs.items()
        },
        "traffic": {
            pieces: {kind: found._asdict() for kind, found in kinds.items()}
            for pieces, kinds in moved.items()
        },
        "flops_per_device": flops,
        "source": {
            "command": "python -m experiments.performance.scaling",
            "git": git_state(),
            "versions": versions(),
        },
    }
    write_json(options.out, results)
    for pieces, kinds in moved.items():
        print(f"micro_batches={pieces}\n{table(kinds)}")


def compile_sharded(options: Options, micro_batches: int) -> jax.stages.Compiled:
    """Return the compiled step."""
    model = with_preprocessing(
        build(options.model, CLASSES), mean=(0.5,), std=(0.25,), augment=False
    )
    size = options.batch
    data = UnlearnData(images(size), images(3 * size), images(size))
    config = LTUConfig(
        support_size=size,
        audit_size=size,
        query_size=size,
        memory=Memory(micro_batches=micro_batches),
    )
    variables = model.init(jax.random.key(0), data.forget.inputs[:1])
    method = ltu(model, spec_of(data, CLASSES), config)
    return compile_step(method, variables, data, over_devices(options.devices))


def images(size: int) -> Examples:
    """Return noise with labels."""
    inputs = np.random.default_rng(size).integers(0, 256, (size, 32, 32, 3), np.uint8)
    return Examples(jax.numpy.asarray(inputs), jax.numpy.arange(size) % CLASSES)


def traffic(program: str) -> dict[str, Traffic]:
    """Return what a compiled program sends, by kind; a loop's body counts once for every turn.

    Args:
      program: the text of an HLO module after partitioning, with known trip counts of its loops.
    """
    bodies = _computations(program)
    turns = _turns(bodies)
    found: dict[str, list[int]] = {}
    for name, lines in bodies.items():
        for line in lines:
            match = re.search(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line)
            if match:
                sizes = found.setdefault(match[2], [])
                sizes += [_bytes(match[1])] * turns.get(name, 1)
    return {kind: Traffic(len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())}


def _computations(program: str) -> dict[str, list[str]]:
    """Return the lines of every computation of an HLO module, by its name."""
    bodies: dict[str, list[str]] = {}
    current: list[str] = []
    for line in program.splitlines():
        header = re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            current = bodies.setdefault(header[1], [])
        else:
            current.append(line)
    return bodies


def _turns(bodies: Mapping[str, list[str]]) -> dict[str, int]:
    """Return how often the body of each loop is run; loops of loops multiply."""
    own, within = {}, {}
    for name, lines in bodies.items():
        for line in lines:
            loop = re.search(r" while\(.*body=%?([\w.\-]+)", line)
            if loop:
                known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                own[loop[1]], within[loop[1]] = int(known[1]) if known else 1, name

    def total(name: str) -> int:
        return own[name] * total(within[name]) if name in own else 1

    return {name: total(name) for name in own}


def _bytes(shapes: str) -> int:
    sizes = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    return sum(
        BYTES[kind] * int(np.prod([int(n) for n in dims.split(",") if n])) for kind, dims in sizes
    )


def table(moved: Mapping[str, Traffic]) -> str:
    """Return what is sent as a Markdown table."""
    rows = [
        f"| {kind} | {found.count} | {found.bytes / 1e6:.1f} |" for kind, found in moved.items()
    ]
    head = ["| collective | a step | MB per device and step |", "|:--|--:|--:|"]
    return "\n".join([*head, *rows])


if __name__ == "__main__":
    main()
