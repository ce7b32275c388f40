"""The command line: arguments to the pipeline, results to a table, bad input to exit code 2."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ltu_jax.errors import DivergedError, InputError


@dataclass(frozen=True)
class Unlearn:
    """Make a trained network unlearn training examples, and audit the result.

    Trains a network on the data (or takes yours with --checkpoint), removes the influence of the
    forget set from it by the chosen method, retrains twice without the forget set to compare with,
    attacks all of them, and writes checkpoints and a report (report.html) into a folder.

    Whom to forget is said by one of the --forget-* options; without any, a random tenth.

    Examples:
      ltu unlearn
      ltu unlearn --forget-class 3
      ltu unlearn --data cifar10 --data-dir ~/tensorflow_datasets --forget-ids ids.txt --out RUN
    """

    data: str = "digits"
    """digits (embedded), the name of a TFDS image classification set such as cifar10, or
    package.module:function for your own."""
    data_dir: str | None = None
    """Folder in which TFDS keeps prepared data sets."""
    train_size: int | None = None
    """Train on a stratified subset of this many examples instead of all."""
    model: str | None = None
    """mlp, cnn, resnet20, resnet18, vit_tiny, or package.module:function for your own. Default:
    mlp for tables and tiny images, cnn for others."""
    checkpoint: Path | None = None
    """Folder of a trained network to start from (Orbax). Default: train one."""
    epochs: int | None = None
    """Passes over the data when training. Default: the model's own number."""

    forget_ids: Path | None = None
    """File of ids to forget: text with one id a line, .csv, .json list or .npy array."""
    forget_id_column: str | None = None
    """Column of the CSV file that holds the ids."""
    forget_class: tuple[str, ...] | None = None
    """Forget all examples of these classes, by name or index."""
    forget_group: str | None = None
    """Forget all examples of a group, as COLUMN=VALUE."""
    forget_fraction: float | None = None
    """Forget a random share of the training set, between 0 and 1."""

    method: str = "ltu"
    """Unlearning method; `ltu methods` lists them."""
    retain_fraction: float = 0.3
    """Share of the remaining data that the method may see, above 0 and at most 1."""
    reference: Literal["retrain", "none"] = "retrain"
    """retrain: also train two networks without the forget set, the only way to know how close the
    result is. none: skip that."""
    seed: int = 0
    """Of subset, splits, training and unlearning; the same seed gives the same numbers."""
    out: Path | None = None
    """Folder for the results; must be new or empty. Default: a fresh one under runs/."""
    quiet: bool = False
    """Show no progress bars."""


@dataclass(frozen=True)
class Methods:
    """List the unlearning methods."""


def main(args: list[str] | None = None) -> None:
    """Run the command line; bad input exits with code 2, a diverged run with code 1."""
    command = tyro.cli(
        Annotated[Unlearn, tyro.conf.subcommand("unlearn")]
        | Annotated[Methods, tyro.conf.subcommand("methods")],
        args=args,
        prog="ltu",
        description="Machine unlearning for JAX: ids in, an unlearned checkpoint and an audit out.",
    )
    try:
        if isinstance(command, Unlearn):
            unlearn(command, shlex.join(["ltu", *(sys.argv[1:] if args is None else args)]))
        else:
            list_methods()
    except InputError as error:
        _stop(error, 2)
    except DivergedError as error:
        _stop(error, 1)


def unlearn(options: Unlearn, command: str) -> None:
    """Run `ltu unlearn`, print the result table and say where the report is."""
    request = _request(options)
    # JAX and Flax take seconds to import: --help and bad flags must not wait for them.
    from rich.console import Console

    from ltu_jax import pipeline
    from ltu_jax.report.table import result_table

    result = pipeline.unlearn(
        options.data,
        request,
        model=options.model,
        method=options.method,
        checkpoint=options.checkpoint,
        retain_fraction=options.retain_fraction,
        reference=options.reference,
        epochs=options.epochs,
        seed=options.seed,
        out=options.out,
        data_dir=options.data_dir,
        train_size=options.train_size,
        quiet=options.quiet,
        command=command,
    )
    console = Console()
    console.print(result_table([row._asdict() for row in result.rows]))
    console.print(f"Unlearned checkpoint: {result.folder / 'unlearned'}", soft_wrap=True)
    console.print(f"Report:               {result.folder / 'report.html'}", soft_wrap=True)


def list_methods() -> None:
    """Print every method with one line and its reference."""
    from rich.console import Console
    from rich.table import Table

    from ltu_jax.unlearners import METHODS

    table = Table("method", "what it does", "reference")
    for name, method in METHODS.items():
        table.add_row(name, method.summary, method.reference)
    Console().print(table)


def _request(options: Unlearn):
    """Return the one request that the options make, or None for the default."""
    from ltu_jax import request

    makers = {
        "forget_ids": lambda path: request.by_ids(path, column=options.forget_id_column),
        "forget_class": request.by_class,
        "forget_group": _by_group,
        "forget_fraction": lambda share: request.by_fraction(share, seed=options.seed),
    }
    given = {name: getattr(options, name) for name in makers if getattr(options, name) is not None}
    flags = [f"--{name.replace('_', '-')}" for name in given]
    if len(given) > 1:
        raise InputError(f"{' and '.join(flags)}: one request at a time; leave out all but one")
    if options.forget_id_column and "forget_ids" not in given:
        raise InputError(
            f"--forget-id-column {options.forget_id_column}: says which column of --forget-ids "
            "to read; give that as well"
        )
    return next((makers[name](value) for name, value in given.items()), None)


def _by_group(text: str):
    from ltu_jax import request

    column, equals, value = text.partition("=")
    if not (column and equals and value):
        raise InputError(f"--forget-group {text}: write it as COLUMN=VALUE")
    return request.by_group(column, value)


def _stop(error: Exception, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code)
