"""Tables of the README and the documentation, made from the result files.

python -m experiments.lib.results_table            # print them
python -m experiments.lib.results_table --write    # put them into the pages
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.lib import tables as rendered
from experiments.lib.provenance import ROOT
from experiments.performance import table as costs
from ltu_jax.report.comparison import table


@dataclass(frozen=True)
class Block:
    """Tables of result files between two marks of a page.

    Attributes:
      path: page.
      name: name in the marks `<!-- NAME:start -->` and `<!-- NAME:end -->`.
      results: result files.
      render: returns the table of one file.
    """

    path: Path
    name: str
    results: tuple[Path, ...]
    render: Callable[[dict[str, Any]], str]


def summary(results: dict[str, Any]) -> str:
    """Return seven rows of the first scenario: the references and the four smallest gaps."""
    rows = table.markdown(results).split("\n\n")[1].splitlines()
    first_columns = ("|".join(row.split("|")[:8]) + "|" for row in rows[:9])
    return "\n".join(first_columns) + "\n\n"


def per_example(results: dict[str, Any]) -> str:
    """Return the per-example attacks, a row for each method."""
    config = results["config"]
    audits = results["methods"]
    title = f"{config['data']}, {config['model']}"
    title += f", {config['train_size']:,} images" if config["train_size"] else ""
    lines = [
        f"**{title}: a random 10 % forgotten, {config['size']} models a side**",
        "",
        "| | U-LiRA | RMIA | U-LiRA on noisy copies | worst 5 % | epsilon at least | "
        "margins on D_f | KLoM |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    first = next(iter(audits.values()))
    named = [("before unlearning", first, "shadow", "original")]
    named += [
        (f"`{name}`", audit, "shadow_unlearned", "unlearned") for name, audit in audits.items()
    ]
    named += [("Retrain (floor)", first, "shadow_retrain", "retrain")]
    for name, audit, shadow, ensemble in named:
        if "failure" in audit:
            lines.append(f"| {name} | a model diverged |{' |' * 6}")
            continue
        lines.append(
            _per_example_row(
                name, audit["per_example"][shadow], audit["distinguishing"][ensemble]["forget"]
            )
        )
    return "\n".join([*lines, "", ""])


def _per_example_row(name: str, membership: dict[str, Any], distinguishing: dict[str, Any]) -> str:
    attacks = (
        f"{found['auc']:.1f} ({found['auc_interval'][0]:.1f} to {found['auc_interval'][1]:.1f})"
        for found in (membership[attack] for attack in ("u_lira", "rmia", "u_lira_noisy"))
    )
    margin = distinguishing["margin"]
    cells = [
        name,
        *attacks,
        f"{membership['u_lira']['worst_5']:.0f}",
        f"{membership['u_lira']['bound']['epsilon']:.2f}",
        f"{margin['shift']:+.1f}".replace("-", "\N{MINUS SIGN}"),
        f"{margin['klom']['mean']:.2f} ({margin['klom']['floor']:.2f})",
    ]
    return f"| {' | '.join(cells)} |"


def benchmark(results: dict[str, Any]) -> str:
    """Return what the benchmark measured, a table for each part."""
    return costs.tables(results) + "\n"


_RESULTS = ROOT / "experiments/results"
_CIFAR10, _DIGITS = (_RESULTS / f"compare_{name}.json" for name in ("cifar10", "digits"))
_SINGLE = tuple(_RESULTS / f"per_example_{name}.json" for name in ("digits", "cifar10"))
_PARTS = "benchmark_steps", "benchmark", "benchmark_programs", "benchmark_more"
_COSTS = tuple(_RESULTS / f"{name}.json" for name in _PARTS)
_GPU_COSTS = (_RESULTS / "benchmark_h200.json",)
_OPEN = {
    name: (_RESULTS / f"{name}.json",)
    for name in (
        "claims",
        "rho_sweep",
        "overlap",
        "conflicts",
        "scheme_check",
        "budget",
        "second_order",
        "stopping",
        "movement",
    )
}
_FAILURES = (_RESULTS / "failure_signatures.json",)
_CLAIMS_PAGE, _ABLATIONS, _ATTACKS = (
    ROOT / f"docs/results/{name}.md" for name in ("claims", "ablations", "attacks")
)
BLOCKS = (
    Block(ROOT / "README.md", "summary", (_CIFAR10,), summary),
    Block(_ATTACKS, "per-example", _SINGLE, per_example),
    Block(ROOT / "docs/results/performance.md", "cost", _COSTS, benchmark),
    Block(ROOT / "docs/results/performance.md", "cost-h200", _GPU_COSTS, benchmark),
    Block(_CLAIMS_PAGE, "claims", _OPEN["claims"], rendered.verdicts),
    Block(_CLAIMS_PAGE, "goal", _OPEN["claims"], rendered.goal),
    Block(_CLAIMS_PAGE, "rivals", _OPEN["claims"], rendered.rivals),
    Block(_CLAIMS_PAGE, "variants", _OPEN["claims"], rendered.variants),
    Block(_ABLATIONS, "rho", _OPEN["rho_sweep"], rendered.rho),
    Block(_ABLATIONS, "budget", _OPEN["budget"], rendered.budget),
    Block(_ABLATIONS, "second-order", _OPEN["second_order"], rendered.second_order),
    Block(_ABLATIONS, "stopping", _OPEN["stopping"], rendered.stopping),
    Block(_ATTACKS, "movement", _OPEN["movement"], rendered.movement),
    Block(_ABLATIONS, "overlap", _OPEN["overlap"], rendered.overlaps),
    Block(_ABLATIONS, "conflicts", _OPEN["conflicts"], rendered.conflicts),
    Block(_ABLATIONS, "scheme", _OPEN["scheme_check"], rendered.scheme),
    Block(_ABLATIONS, "failures", _FAILURES, rendered.failures),
    Block(_ATTACKS, "backdoors", (_RESULTS / "backdoor.json",), rendered.backdoors),
    Block(ROOT / "docs/results/comparison.md", "results", (_CIFAR10, _DIGITS), table.markdown),
)


@dataclass(frozen=True)
class Options:
    """Print the result tables as Markdown.

    Attributes:
      write: put the tables between the marks in the pages instead of printing them.
    """

    write: bool = False


def main(args: list[str] | None = None) -> None:
    """Print the tables, or write them into the pages."""
    options = tyro.cli(Options, args=args)
    if options.write:
        write(BLOCKS)
    else:
        for block in BLOCKS[1:]:
            print(tables(block))


def write(blocks: Sequence[Block]) -> None:
    """Put into every page the tables of its results."""
    for block in blocks:
        page = block.path.read_text(encoding="utf-8")
        block.path.write_text(replace_block(page, block.name, tables(block)), encoding="utf-8")


def tables(block: Block) -> str:
    """Return the tables of every existing file, and their provenance."""
    parts = []
    for path in block.results:
        if path.exists():
            results = json.loads(path.read_text(encoding="utf-8"))
            sources = results.get("sources") or [
                part["source"] for part in ([results] if "source" in results else results.values())
            ]
            parts += [block.render(results), origin(sources)]
    return "\n".join(parts)


def origin(sources: Sequence[dict[str, Any]]) -> str:
    """Return the commands, commits and devices that the numbers come from."""
    lines = []
    for source in sources:
        commit, dirty = source["git"]["commit"], source["git"]["dirty"]
        code = f"commit `{commit[:7]}`" if commit else "code outside git"
        changed = " with changes not committed" if dirty else ""
        rows = source.get("rows_made_by", ())
        changed += ", rows made with changes not committed" * any(
            one["git"]["dirty"] for one in rows
        )
        device = (
            " and ".join(sorted({one["device"] for one in rows})) or source["versions"]["device"]
        )
        lines.append(f"`{_current(source['command'])}` ({code}{changed}, {device})")
    return "Made by " + ", then ".join(lines) + ".\n"


def _current(command: str) -> str:
    """Return a recorded command with the present path of its module."""
    paths = {path.stem: path.parent.name for path in (ROOT / "experiments").glob("*/*.py")}
    return re.sub(
        r"-m experiments\.(\w+)(?![\w.])",
        lambda found: f"-m experiments.{paths[found[1]]}.{found[1]}",
        command,
    )


def replace_block(page: str, name: str, text: str) -> str:
    """Return `page` with `text` between the two marks of that name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, found_start, rest = page.partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise SystemExit(f"the page has no {start} followed by {end}")
    return f"{before}{start}\n{text}{end}{after}"


if __name__ == "__main__":
    main()
