"""`ltu unlearn` and `ltu tune`: options to a specification, results to the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltu_jax.cli.options import Deletion, Unlearn
from ltu_jax.errors import InputError

if TYPE_CHECKING:
    from ltu_jax.data.request import Request
    from ltu_jax.runs.folder import RunFolder
    from ltu_jax.runs.pipeline import Result
    from ltu_jax.runs.spec import InMemory, RunSpec

# Options that say where this process runs, not what the run does.
PROCESS = ("distributed", "coordinator", "num_processes", "process_id")
# Options that a finished run decides for the next request.
DECIDED = ("data", "data_dir", "train_size", "model", "epochs", "seed", "checkpoint", "stream")


def unlearn(options: Unlearn, command: str) -> None:
    """Run `ltu unlearn` or `ltu tune`, print the results and say where the report is."""
    request = read_request(options)
    check_alone(options, "resume", keep=("resume", "quiet", "log", *PROCESS))
    check_alone(options, "run", keep=[f.name for f in fields(options) if f.name not in DECIDED])
    if options.dry_run and options.run:
        raise InputError("dry_run", "needs a first request", "leave out `run`")
    if options.dry_run:
        dry_run(options, request, command)
        return
    where = (options.coordinator, options.num_processes, options.process_id)
    # JAX and Flax take seconds to import: --help and wrong options must not wait for them.
    from ltu_jax.cli.compilation_cache import prepare
    from ltu_jax.training import hosts

    if options.distributed or where != (None, None, None):
        hosts.join(*where)
    prepare()
    quiet = options.quiet or not hosts.is_main()
    if options.resume:
        from ltu_jax.runs.pipeline import resume

        result = resume(options.resume, quiet=quiet, log=options.log)
    else:
        with hosts.results_folder(options.out) as out:
            result = _start(options, request, out, quiet, command)
    if hosts.is_main():
        show(result, options.log)


def _start(
    options: Unlearn, request: Request | None, out: Path | None, quiet: bool, command: str
) -> Result:
    """Start a run and return its result."""
    shared = {"out": out, "quiet": quiet, "log": options.log}
    if options.run is None:
        from ltu_jax.runs.pipeline import start

        return start(*specify(options, command, request), **shared)
    from ltu_jax.runs.loading import load_spec
    from ltu_jax.runs.sequential.unlearn_next import unlearn_next

    method = options.method or (load_spec(options.run).method if options.config else None)
    names = ("reference", "tensorboard", "wandb", "save_every", "devices", "trials", "select")
    return unlearn_next(
        options.run,
        request,
        method=options.method,
        config=_config(options, method),
        only=options.only or None,
        retain_fraction=options.retain_fraction,
        retrain=options.retrain_checkpoint or None,
        **{name: getattr(options, name) for name in names if hasattr(options, name)},
        **shared,
        command=command,
    )


def specify(
    options: Deletion, command: str, request: Request | None
) -> tuple[RunSpec, Request | None, InMemory]:
    """Return the specification, the request and the objects that the options make."""
    from ltu_jax.runs.spec import InMemory, RunSpec

    names = {entry.name for entry in fields(RunSpec)} & {entry.name for entry in fields(options)}
    given = {name: getattr(options, name) for name in names}
    given["retrain"] = getattr(options, "retrain_checkpoint", ())
    spec = RunSpec(
        **{name: value for name, value in given.items() if value not in (None, ())},
        command=command,
    )
    return spec, request, InMemory(config=_config(options, spec.method))


def _config(options: Deletion, method: str | None) -> Any:
    """Return the options of the method from the file that `--config` names."""
    if options.config is None:
        return None
    from ltu_jax.unlearners import read_config

    if method is None:
        raise InputError("run", "has a method that was made in Python", "continue it from Python")
    try:
        return read_config(method, options.config)
    except InputError as error:  # an option may have the name of a flag
        if error.argument in ("config", "method"):
            raise
        problem = f"{options.config}: {error.argument} {error.problem}"
        raise InputError("config", problem, error.remedy) from error


def dry_run(options: Unlearn, request: Request | None, command: str) -> None:
    """Check all input as a run does, and print what it would do."""
    from ltu_jax.runs import dry_run as forecast
    from ltu_jax.runs.folder import check_folder
    from ltu_jax.runs.plan import make_plan
    from ltu_jax.runs.progress import write_event

    check_folder(options.out)
    plan = make_plan(*specify(options, command, request))
    costs = forecast.forecast(plan, plan.spec.trials)
    if options.log == "json":
        write_event("dry_run", **forecast.as_json(costs))
    else:
        print("\n".join(forecast.lines(costs)))


def show(result: Result, log: str = "text") -> None:
    """Print the results of a run and say where its files are."""
    from ltu_jax.report import sentences
    from ltu_jax.report.content import plain, timed_rows
    from ltu_jax.report.result_table import result_table
    from ltu_jax.runs.folder import RunFolder
    from ltu_jax.runs.progress import write_event
    from ltu_jax.terminal import Terminal

    rows = [row._asdict() for row in result.metrics.values()]
    folder = RunFolder(result.folder)
    tuned = _outcome(folder)
    if log == "json":
        paths = {"unlearned": str(folder.unlearned), "report": str(folder.page)}
        about = {} if tuned is None else {"tuning": {**tuned, "file": str(folder.tuning)}}
        write_event("result", **paths, **about, rows=plain(rows))
        return
    terminal = Terminal()
    terminal.show(result_table(timed_rows(result.content)))
    if backdoor := sentences.backdoor(rows):
        print(f"{backdoor}\n")
    terminal.print(result.verdict, markup=False, highlight=False)
    print()
    if tuned is not None:
        print("\n".join(_choice(tuned)))
        print(f"All trials:           {folder.tuning}")
    print(f"Unlearned checkpoint: {folder.unlearned}")
    print(f"Report:               {folder.page}")


def _outcome(folder: RunFolder) -> dict[str, Any] | None:
    """Return what the trials of a run chose, see `tuning.outcome`; None if there were none."""
    from ltu_jax.runs.tuning import outcome

    if not folder.tuning.exists():
        return None
    return outcome(json.loads(folder.tuning.read_text(encoding="utf-8")))


def _choice(tuned: Mapping[str, Any]) -> list[str]:
    """Return the chosen options and their score against the defaults' as lines."""
    options = ", ".join(f"{name} {value}" for name, value in tuned["options"].items())
    failed = f", of which {tuned['failed']} failed" if tuned["failed"] else ""
    default = "failed" if tuned["default"] is None else f"{tuned['default']:.2f}"
    return [
        f"Chosen options:       {options or 'the defaults'}",
        f"Chosen trial:         {tuned['trial']} of {tuned['trials']}{failed}",
        f"Score:                {tuned['score']:.2f}, defaults {default} (lower is better)",
    ]


def read_request(options: Deletion) -> Request | None:
    """Return the request that the options make, or None for the default."""
    from ltu_jax.data import request

    makers = {
        "forget_ids": lambda path: request.by_ids(path, column=options.forget_id_column),
        "forget_class": request.by_class,
        "forget_group": _by_group,
        "forget_fraction": lambda share: request.by_fraction(share, seed=options.seed),
    }
    given = {name: getattr(options, name) for name in makers if getattr(options, name) is not None}
    if len(given) > 1:
        first, *others = given
        others = ", ".join(f"`{name}`" for name in others)
        raise InputError(first, f"is given together with {others}", "make one request at a time")
    if options.forget_id_column and "forget_ids" not in given:
        raise InputError(
            "forget_id_column", f"is {options.forget_id_column}", "give `forget_ids` as well"
        )
    return next((makers[name](value) for name, value in given.items()), None)


def _by_group(given: tuple[str, ...]) -> Request:
    from ltu_jax.data import request

    parts = [text.partition("=") for text in given]
    for text, (column, equals, value) in zip(given, parts, strict=True):
        if not (column and equals and value):
            raise InputError("forget_group", f"is {text!r}", "write it as COLUMN=VALUE")
    columns = dict.fromkeys(column for column, _, _ in parts)
    if len(columns) > 1:
        problem = f"names the columns {' and '.join(columns)}"
        raise InputError("forget_group", problem, "give values of one column at a time")
    return replace(request.by_group(parts[0][0], [part[2] for part in parts]), typed=False)


def check_alone(
    options: Deletion, name: str, *, among: type | None = None, keep: Sequence[str] = ()
) -> None:
    """Raise `InputError` if a run is named together with options that it decides."""
    decided = [entry for entry in fields(among or options) if entry.name not in keep]
    given = [entry.name for entry in decided if getattr(options, entry.name) != entry.default]
    if getattr(options, name) and given:
        raise InputError(
            name,
            f"is {getattr(options, name)}, which decides {', '.join(f'`{g}`' for g in given)}",
            "leave those out",
        )
