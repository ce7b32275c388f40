"""The command line: arguments to the pipeline, results to a table, bad input to exit code 2."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from ltu_jax.cli.options import (
    Audit,
    Compare,
    Deletion,
    Ledger,
    Methods,
    Pool,
    Queue,
    Selfcheck,
    Tune,
    Unlearn,
)
from ltu_jax.cli.sequential import ledger, queue
from ltu_jax.errors import DivergedError, InputError, InvariantError, TamperedError, is_text

# Where this process stands among several: of the moment, not of the run.
PLACE = ("distributed", "coordinator", "num_processes", "process_id")
RESULTS = {"unlearned": "unlearned", "report": "report.html"}
# What a run that is gone on from settles for the next one.
SETTLED = ("data", "data_dir", "train_size", "model", "epochs", "seed", "checkpoint", "stream")


def main(args: list[str] | None = None) -> None:
    """Run the command line; bad input exits with code 2, a run that fails midway with code 1."""
    command = tyro.cli(
        Annotated[Unlearn, tyro.conf.subcommand("unlearn")]
        | Annotated[Tune, tyro.conf.subcommand("tune")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Pool, tyro.conf.subcommand("pool")]
        | Annotated[Audit, tyro.conf.subcommand("audit")]
        | Annotated[Ledger, tyro.conf.subcommand("ledger")]
        | Annotated[Queue, tyro.conf.subcommand("queue")]
        | Annotated[Selfcheck, tyro.conf.subcommand("selfcheck")]
        | Annotated[Methods, tyro.conf.subcommand("methods")],
        args=args,
        prog="ltu",
        description="Machine unlearning for JAX: ids in, an unlearned checkpoint and an audit out.",
    )
    given = sys.argv[1:] if args is None else args
    line = shlex.join(["ltu", *given])
    try:
        _check_text(given)
        if isinstance(command, Unlearn):
            unlearn(command, line)
        elif isinstance(command, Compare):
            compare(command, line)
        elif isinstance(command, Pool):
            pool(command)
        elif isinstance(command, Audit):
            audit(command, line)
        elif isinstance(command, Ledger):
            ledger(command)
        elif isinstance(command, Queue):
            queue(command, line)
        elif isinstance(command, Selfcheck):
            selfcheck(command)
        else:
            list_methods()
    except TamperedError as error:
        _stop(error, 1)
    except InputError as error:
        _stop(error, 2)
    except (DivergedError, InvariantError, OSError) as error:
        _stop(error, 1)


def unlearn(options: Unlearn, command: str) -> None:
    """Run `ltu unlearn` or `ltu tune`, print the result table and say where the report is."""
    request = _request(options)
    _check_alone(options, "resume", keep=("resume", "quiet", "log", *PLACE))
    kept = tuple(f.name for f in fields(options) if f.name not in SETTLED)
    _check_alone(options, "run", keep=kept)
    if options.dry_run and options.run:
        raise InputError(f"--dry-run: tells of first requests alone; leave out --run {options.run}")
    if options.dry_run:
        dry_run(options, request)
        return
    _join_others(options)
    # JAX and Flax take seconds to import: --help and bad flags must not wait for them.
    from absl import logging
    from rich.console import Console

    from ltu_jax.cli import compilation_cache as programs
    from ltu_jax.report import sentences as words
    from ltu_jax.report.content import plain
    from ltu_jax.report.result_table import result_table
    from ltu_jax.runs import pipeline
    from ltu_jax.training import hosts

    logging.set_verbosity(logging.FATAL)  # Orbax logs tracebacks of what it raises as well
    programs.keep_programs()
    if options.resume:
        quiet = options.quiet or not hosts.is_main()
        result = pipeline.resume(options.resume, quiet=quiet, log=options.log)
    else:
        with hosts.results_folder(options.out) as out:
            result = _start(options, request, out, command)
    if not hosts.is_main():
        return
    rows = [row._asdict() for row in result.rows]
    if options.log == "json":
        from ltu_jax.runs.progress import write_event

        paths = {name: str(result.folder / file) for name, file in RESULTS.items()}
        write_event("result", **paths, rows=plain(rows))
        return
    Console().print(result_table(rows))
    if triggered := words.backdoor(rows):
        print(f"{triggered}\n")
    print(f"Unlearned checkpoint: {result.folder / 'unlearned'}")
    print(f"Report:               {result.folder / 'report.html'}")


def dry_run(options: Unlearn, request) -> None:
    """Check all input as a run does, and print what it would do."""
    from ltu_jax.runs import dry_run as forecast
    from ltu_jax.runs import tuning as selection
    from ltu_jax.runs.plan import check_folder, make_plan
    from ltu_jax.runs.progress import write_event

    trials = options.trials if isinstance(options, Tune) else None
    if isinstance(options, Tune):
        selection.check_trials(options.trials, options.select, options.reference)
    check_folder(options.out)
    plan = make_plan(
        options.data,
        request,
        **_choices(options),
        checkpoint=options.checkpoint,
        reference=options.reference,
        stream=options.stream,
    )
    told = forecast.forecast(plan, trials)
    if options.log == "json":
        write_event("dry_run", **forecast.as_json(told))
    else:
        print("\n".join(forecast.lines(told)))


def _choices(options: Deletion) -> dict[str, Any]:
    """Return what settles network, method and seed of a first request, as plans take it."""
    method = options.method or "ltu"
    share = 0.3 if options.retain_fraction is None else options.retain_fraction
    return {
        "model": options.model,
        "method": method,
        "config": _config(options, method),
        "only": options.only or None,
        "retain_fraction": share,
        "epochs": options.epochs,
        "seed": options.seed,
        "data_dir": options.data_dir,
        "train_size": options.train_size,
    }


def _join_others(options: Unlearn) -> None:
    """Have this process take part in a run of several, if it is asked to."""
    where = (options.coordinator, options.num_processes, options.process_id)
    if options.distributed or where != (None, None, None):
        from ltu_jax.training import hosts

        hosts.join(*where)


def _start(options: Unlearn, request, out: Path | None, command: str):
    """Begin a run and return its result."""
    from ltu_jax.runs import pipeline
    from ltu_jax.runs.sequential import unlearn_next as sequential
    from ltu_jax.training import hosts

    shared = {
        "reference": options.reference,
        "out": out,
        "quiet": options.quiet or not hosts.is_main(),
        "log": options.log,
        "tensorboard": options.tensorboard,
        "wandb": options.wandb,
        "save_every": options.save_every,
        "devices": options.devices,
        "command": command,
    }
    if isinstance(options, Tune):
        shared |= {"trials": options.trials, "select": options.select}
    if options.run:
        return sequential.unlearn_next(
            options.run,
            request,
            method=options.method,
            config=_config(options, options.method or sequential.method_of(options.run)),
            only=options.only or None,
            retain_fraction=options.retain_fraction,
            **shared,
        )
    return pipeline.unlearn(
        options.data,
        request,
        **_choices(options),
        checkpoint=options.checkpoint,
        stream=options.stream,
        **shared,
    )


def _config(options: Deletion, method: str):
    from ltu_jax.unlearners import read_config

    return options.config and read_config(method, options.config)


def compare(options: Compare, command: str) -> None:
    """Run `ltu compare`, print a table for every scenario and say where the files are."""
    from rich.console import Console

    from ltu_jax.cli import compilation_cache as programs
    from ltu_jax.report import comparison as report
    from ltu_jax.report.write import versions
    from ltu_jax.runs.comparison import Comparison, run

    comparison = Comparison(**{f.name: getattr(options, f.name) for f in fields(options)})
    programs.keep_programs(comparison.cache)
    source = {"command": command, "versions": versions()}
    results = run(comparison, source=source)
    report.write(results, options.out)
    console = Console(width=max(Console().width, 120))
    for table in report.tables(results):
        console.print(table)
    print(f"Results, tables and figures: {options.out}")


def pool(options: Pool) -> None:
    """Run `ltu pool` and say where each pool is."""
    request = _request(options)
    from ltu_jax.cli import compilation_cache as programs
    from ltu_jax.runs import ensembles
    from ltu_jax.runs.plan import check_writable, make_plan
    from ltu_jax.runs.settings import load_plan

    _check_alone(options, "run", among=Deletion)
    check_writable("--pools", options.pools)
    programs.keep_programs(options.pools)
    if options.run:
        plan = load_plan(options.run, argument="--run")
    else:
        plan = make_plan(options.data, request, **_choices(options))
    for made in ensembles.make_ensembles(
        plan, options.kind, options.size, options.pools, quiet=options.quiet
    ):
        print(f"{made.type}: {len(made.streams)} networks in {made.seconds:.0f} s, {made.folder}")


def audit(options: Audit, command: str) -> None:
    """Run `ltu audit`, print its findings and say where the report is."""
    from rich.console import Console

    from ltu_jax.cli import compilation_cache as programs
    from ltu_jax.report.audit import sentences as audit_words
    from ltu_jax.report.audit import tables as audit_table
    from ltu_jax.report.content import label
    from ltu_jax.runs.audit import audit_run

    programs.keep_programs()
    found = audit_run(
        options.run,
        pools_in=options.pool,
        alpha=options.alpha,
        command=command,
        quiet=options.quiet,
    )
    console = Console()
    for table in audit_table.tables(found):
        console.print(table)
    method = label(found["population"][-1]["model"])  # the run's networks end with the method's
    for sentence in audit_words.verdicts(found, method):
        console.print(sentence, markup=False, highlight=False)
    print(f"Report: {options.run / 'report.html'}")


def selfcheck(options: Selfcheck) -> None:
    """Run `ltu selfcheck`, print every case, and stop with exit code 1 if one is wrong."""
    from rich.console import Console

    from ltu_jax.cli import compilation_cache as programs
    from ltu_jax.runs.selfcheck import run, table

    programs.keep_programs()
    checks = run(options.seed)
    Console().print(table(checks))
    wrong = [check.name for check in checks if not check.passed]
    if wrong:
        raise InvariantError(f"selfcheck: wrong answers from {', '.join(wrong)}")


def list_methods() -> None:
    """Print every method with one line and its reference."""
    from rich.console import Console
    from rich.table import Table

    from ltu_jax.unlearners import METHODS

    table = Table("method", "what it does", "reference")
    for name, method in METHODS.items():
        table.add_row(name, method.summary, method.reference)
    Console().print(table)


def _request(options: Deletion):
    """Return the one request that the options make, or None for the default."""
    from ltu_jax.data import request

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


def _check_alone(
    options: Deletion, name: str, *, among: type | None = None, keep: tuple[str, ...] = ()
) -> None:
    """Raise `InputError` if a run is named and options that it settles are given as well."""
    settled = [f for f in fields(among or options) if f.name not in keep]
    given = [f.name for f in settled if getattr(options, f.name) != f.default]
    if getattr(options, name) and given:
        flags = ", ".join(f"--{other.replace('_', '-')}" for other in given)
        raise InputError(
            f"--{name} {getattr(options, name)}: settles {flags} already; leave them out"
        )


def _check_text(given: list[str]) -> None:
    """Raise `InputError` if an argument could not be written into the report."""
    for value in given:
        if not is_text(value):
            raise InputError(f"argument {value!r}: is not UTF-8; rename what it names")


def _by_group(text: str):
    from ltu_jax.data import request

    column, equals, value = text.partition("=")
    if not (column and equals and value):
        raise InputError(f"--forget-group {text}: write it as COLUMN=VALUE")
    return request.by_group(column, value)


def _stop(error: Exception, code: int) -> None:
    print("error:", *str(error).split(), file=sys.stderr)  # whatever it holds, one line
    raise SystemExit(code)
