"""What does a sharded LTU step send between devices?

    python -m experiments.performance.scaling

Compiles one step of LTU on a ResNet-18, with images of 32 x 32, for eight devices that are really
one CPU, and counts the collectives of the compiled program. Only the compiler's merging of messages
depends on the kind of device. Writes `experiments/results/scaling.json`; some minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from experiments.lib.provenance import ROOT, command_source
from experiments.lib.tables import table
from experiments.performance.subjects import CLASSES, noise
from ltu_jax.files import write_json
from ltu_jax.models import build, with_preprocessing
from ltu_jax.training.devices import over_devices
from ltu_jax.training.loop import compile_step
from ltu_jax.types import UnlearnData
from ltu_jax.unlearners.base import spec_of
from ltu_jax.unlearners.ltu import LTUConfig, Memory, ltu

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}


@dataclass(frozen=True)
class Options:
    """Count what a sharded LTU step sends.

    Attributes:
      model: a built-in model that takes images.
      devices: number of devices.
      micro_batches: pieces of each device's share; each number is compiled.
      batch: examples of the support, the audit and each of the three query sets.
      out: result file.
    """

    model: str = "resnet18"
    devices: int = 8
    micro_batches: tuple[int, ...] = (1, 2)
    batch: int = 64
    out: Path = ROOT / "experiments/results/scaling.json"


class Traffic(NamedTuple):
    """Number of collectives of one type in a step, and the bytes of their results on a device."""

    count: int
    bytes: int


def main(args: Sequence[str] | None = None) -> None:
    """Compile, count, write."""
    options = tyro.cli(Options, args=args)
    jax.config.update("jax_num_cpu_devices", options.devices)
    programs = {pieces: compile_sharded(options, pieces) for pieces in options.micro_batches}
    sent = {pieces: traffic(program.as_text()) for pieces, program in programs.items()}
    results = {
        "config": {**asdict(options), "out": options.out.name},
        "temporary_bytes": {
            pieces: program.memory_analysis().temp_size_in_bytes
            for pieces, program in programs.items()
        },
        "traffic": {
            pieces: {name: found._asdict() for name, found in by_name.items()}
            for pieces, by_name in sent.items()
        },
        "source": command_source("performance.scaling"),
    }
    write_json(options.out, results)
    rows = [
        [name, str(pieces), str(found.count), f"{found.bytes / 1e6:.1f}"]
        for pieces, by_name in sent.items()
        for name, found in by_name.items()
    ]
    print(table(["collective", "micro_batches", "a step", "MB per device and step"], rows))


def compile_sharded(options: Options, micro_batches: int) -> jax.stages.Compiled:
    """Return the compiled step."""
    bare, size = build(options.model, CLASSES), options.batch
    model = with_preprocessing(bare, mean=(0.5,), std=(0.25,), augment=False)
    data = UnlearnData(*(noise(count, (32, 32, 3), count) for count in (size, 3 * size, size)))
    sizes = dict.fromkeys(("support_size", "audit_size", "query_size"), size)
    config = LTUConfig(**sizes, memory=Memory(micro_batches=micro_batches))
    variables = model.init(jax.random.key(0), data.forget.inputs[:1])
    method = ltu(model, spec_of(data, CLASSES), config)
    return compile_step(method, variables, data, over_devices(options.devices))


def traffic(program: str) -> dict[str, Traffic]:
    """Return what a compiled program sends; the body of a loop counts once per iteration.

    Args:
      program: text of an HLO module after partitioning, with known trip counts of its loops.
    """
    bodies: dict[str, list[str]] = {}
    current: list[str] = []
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = bodies.setdefault(header[1], [])
        else:
            current.append(line)
    iterations, sizes = _iterations(bodies), {}
    for name, lines in bodies.items():
        for line in lines:
            if found := re.search(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line):
                sizes.setdefault(found[2], []).extend([_bytes(found[1])] * iterations.get(name, 1))
    return {name: Traffic(len(all_), sum(all_)) for name, all_ in sorted(sizes.items())}


def _iterations(bodies: Mapping[str, list[str]]) -> dict[str, int]:
    """Return how often the body of each loop runs; nested loops multiply."""
    own, within = {}, {}
    for name, lines in bodies.items():
        for line in lines:
            if loop := re.search(r" while\(.*body=%?([\w.\-]+)", line):
                known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                own[loop[1]], within[loop[1]] = int(known[1]) if known else 1, name

    def total(name: str) -> int:
        return own[name] * total(within[name]) if name in own else 1

    return {name: total(name) for name in own}


def _bytes(shapes: str) -> int:
    return sum(
        BYTES[dtype] * int(np.prod([int(n) for n in dims.split(",") if n]))
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    )


if __name__ == "__main__":
    main()
