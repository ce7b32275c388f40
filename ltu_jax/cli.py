"""The command line: arguments to the pipeline, results to a table, bad input to exit code 2."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ltu_jax.errors import DivergedError, InputError


def _unset(kind: type, metavar: str):
    """Return the type of an option that may be left out; its help says what happens then."""
    return Annotated[kind | None, tyro.conf.arg(metavar=metavar, help_behavior_hint="")]


_Text = _unset(str, "NAME")
_Folder = _unset(Path, "DIR")
_File = _unset(Path, "FILE")
_Count = _unset(int, "N")
_Share = _unset(float, "SHARE")
_Classes = _unset(tuple[str, ...], "CLASS [CLASS ...]")
_Group = _unset(str, "COLUMN=VALUE")


# Lines of the docstring that begin with a letter are joined by tyro and never wrapped.
@dataclass(frozen=True)
class Unlearn:
    """Make a trained network unlearn training examples, and audit the result.

    1. Trains a network on the data, or takes the one that --checkpoint names.
    2. Removes the influence of the forget set from it by an unlearning method.
    3. Retrains two networks without the forget set, to compare with.
    4. Attacks all of them; writes checkpoints and report.html into a folder.

    One --forget-* option says whom to forget; without any, a random tenth.

      ltu unlearn
      ltu unlearn --forget-class 3
      ltu unlearn --data cifar10 --data-dir DIR --forget-ids ids.txt --out RUN
    """

    data: Annotated[str, tyro.conf.arg(metavar="NAME")] = "digits"
    """digits (embedded), a TFDS image set such as cifar10, or your own package.module:function."""
    data_dir: _Folder = None
    """Folder in which TFDS keeps prepared data sets; by default TFDS's own."""
    train_size: _Count = None
    """Train on a stratified subset of this many examples; by default on all."""
    model: _Text = None
    """mlp, cnn, resnet20, resnet18, vit_tiny or package.module:function; by default what fits."""
    checkpoint: _Folder = None
    """Trained network to start from (Orbax, such as RUN/original); by default one is trained."""
    epochs: _Count = None
    """Passes over the data when training; by default the model's own number."""

    forget_ids: _File = None
    """File of ids to forget: text with one id a line, .csv, .json list or .npy array."""
    forget_id_column: _Text = None
    """Column of the CSV file that holds the ids; needed where it has several."""
    forget_class: _Classes = None
    """Forget all examples of these classes, by name or index."""
    forget_group: _Group = None
    """Forget all examples that have this value in a column of the data set."""
    forget_fraction: _Share = None
    """Forget a random share of the training set, between 0 and 1."""

    method: Annotated[str, tyro.conf.arg(metavar="NAME")] = "ltu"
    """Unlearning method; `ltu methods` lists them."""
    retain_fraction: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.3
    """Share of the remaining data that the method may see, above 0 and at most 1."""
    reference: Literal["retrain", "none"] = "retrain"
    """retrain: also train two networks without the forget set, to compare with; none: do not."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Of subset, splits, training and unlearning; the same seed gives the same numbers."""
    out: _Folder = None
    """Folder for the results, new or empty; by default a fresh one under runs/."""
    quiet: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show no progress bars."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write every step for TensorBoard, into the folder of the results."""


@dataclass(frozen=True)
class Methods:
    """List the unlearning methods."""


def main(args: list[str] | None = None) -> None:
    """Run the command line; bad input exits with code 2, a run that fails midway with code 1."""
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
    except (DivergedError, OSError) as error:
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
        tensorboard=options.tensorboard,
        command=command,
    )
    Console().print(result_table([row._asdict() for row in result.rows]))
    print(f"Unlearned checkpoint: {result.folder / 'unlearned'}")
    print(f"Report:               {result.folder / 'report.html'}")


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
    print("error:", *str(error).split(), file=sys.stderr)  # whatever it holds, one line
    raise SystemExit(code)
