"""The command line: one function per command, bad input to exit code 2."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from typing import Annotated, Any, NoReturn

import tyro

from ltu_jax.cli.evidence import ForgetFiles, Keygen, Verify, forget_files, keygen, verify
from ltu_jax.cli.exports import Export, export
from ltu_jax.cli.flags import check_once, in_flags, without_values
from ltu_jax.cli.options import (
    Audit,
    Compare,
    Deletion,
    Ensemble,
    Ledger,
    Methods,
    Queue,
    Selfcheck,
    Tune,
    Unlearn,
)
from ltu_jax.cli.sequential import ledger, queue
from ltu_jax.cli.unlearn import check_alone, read_request, specify, unlearn
from ltu_jax.errors import (
    DivergedError,
    InputError,
    Interrupted,
    InvariantError,
    TamperedError,
    is_text,
)
from ltu_jax.terminal import Terminal, accept_any_text, discard, write_line

# Options of `ltu audit` that go with a run alone, or with a file of outputs alone.
OF_RUN, OF_OUTPUTS = ("ensembles", "write_outputs"), ("kind", "seed", "out")
DESCRIPTION = "Machine unlearning for JAX: ids in, an unlearned checkpoint and an audit out."


def main(args: list[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 2 for bad input, 1 for a file that was edited and for a run that fails,
    130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads the output of a command.
    """
    given = sys.argv[1:] if args is None else args
    accept_any_text()
    if given == ["--version"]:
        print_version()
        return
    options = tyro.cli(
        Annotated[Unlearn, tyro.conf.subcommand("unlearn")]
        | Annotated[Tune, tyro.conf.subcommand("tune")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Ensemble, tyro.conf.subcommand("ensemble")]
        | Annotated[Audit, tyro.conf.subcommand("audit")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Keygen, tyro.conf.subcommand("keygen")]
        | Annotated[ForgetFiles, tyro.conf.subcommand("forget-files")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Ledger, tyro.conf.subcommand("ledger")]
        | Annotated[Queue, tyro.conf.subcommand("queue")]
        | Annotated[Selfcheck, tyro.conf.subcommand("selfcheck")]
        | Annotated[Methods, tyro.conf.subcommand("methods")],
        args=args,
        prog="ltu",
        description=DESCRIPTION,
    )
    try:
        for value in given:  # every argument is written into the report
            if not is_text(value):
                raise InputError("argument", f"{value!r} is not UTF-8", "rename it")
        check_once(given)
        run(options, shlex.join(["ltu", *without_values(given)]))
    except InputError as error:
        _stop(in_flags(error, options), 1 if isinstance(error, TamperedError) else 2)
    except KeyboardInterrupt as error:
        _stop(_after_interrupt(error, options), 130)
    except BrokenPipeError:
        discard(sys.stdout)
        raise SystemExit(141) from None
    except (DivergedError, InvariantError, OSError) as error:
        _stop(str(error), 1)
    except RuntimeError as error:
        if "initialize backend" not in str(error):
            raise
        from ltu_jax.training.devices import no_backend

        _stop(str(no_backend(error)), 2)


def _after_interrupt(error: KeyboardInterrupt, options: Any) -> str:
    """Return what Ctrl-C left, and how to continue."""
    if isinstance(options, Queue):
        return "interrupted; the requests stay pending, repeat the command to continue"
    if isinstance(error, Interrupted):
        return f"interrupted; continue with {shlex.join(['ltu', 'unlearn', '--resume', error.run])}"
    if isinstance(options, Compare | Ensemble):
        return "interrupted; what is finished is kept, repeat the command to continue"
    return "interrupted; nothing was kept of this command"


def run(options: Any, command: str) -> None:
    """Run a command; `command` is the line that the report shows."""
    if isinstance(options, Unlearn):
        unlearn(options, command)
    elif isinstance(options, Compare):
        compare(options, command)
    elif isinstance(options, Ensemble):
        ensemble(options, command)
    elif isinstance(options, Audit):
        audit(options, command)
    elif isinstance(options, Verify):
        verify(options)
    elif isinstance(options, ForgetFiles):
        forget_files(options)
    elif isinstance(options, Keygen):
        keygen(options)
    elif isinstance(options, Export):
        export(options)
    elif isinstance(options, Ledger):
        ledger(options)
    elif isinstance(options, Queue):
        queue(options, command)
    elif isinstance(options, Selfcheck):
        selfcheck(options)
    else:
        list_methods()


def compare(options: Compare, command: str) -> None:
    """Run `ltu compare`, print a table for every scenario and say where the files are."""
    from ltu_jax.cli.compilation_cache import keep_programs
    from ltu_jax.report import comparison as report
    from ltu_jax.report.write import versions
    from ltu_jax.runs.comparison import Comparison, run

    comparison = Comparison(**{f.name: getattr(options, f.name) for f in fields(options)})
    keep_programs(comparison.cache)
    source = {"command": command, "versions": versions()}
    results = run(comparison, source=source)
    report.write(results, options.out)
    for table in report.tables(results):
        Terminal().show(table)
    print(f"Results, tables and figures: {options.out}")


def ensemble(options: Ensemble, command: str) -> None:
    """Run `ltu ensemble` and print the folder of each ensemble."""
    request = read_request(options)
    check_alone(options, "run", among=Deletion)
    from ltu_jax.cli.compilation_cache import keep_programs
    from ltu_jax.data.request import by_fraction
    from ltu_jax.runs import ensembles
    from ltu_jax.runs.folder import check_writable
    from ltu_jax.runs.loading import load_plan
    from ltu_jax.runs.plan import make_plan

    check_writable("ensembles", options.ensembles)
    keep_programs(options.ensembles)
    # Not the default class of the digits: the shadow types need pairs of one class.
    request = request or by_fraction(0.1, seed=options.seed)
    plan = load_plan(options.run) if options.run else make_plan(*specify(options, command, request))
    for made in ensembles.make_ensembles(
        plan, options.type, options.size, options.ensembles, quiet=options.quiet
    ):
        print(f"{made.type}: {len(made.streams)} models in {made.seconds:.0f} s, {made.folder}")


def audit(options: Audit, command: str) -> None:
    """Run `ltu audit`, print its results and say where the report is."""
    from ltu_jax.cli.compilation_cache import keep_programs
    from ltu_jax.report.audit import sentences, tables
    from ltu_jax.report.content import label
    from ltu_jax.runs.folder import RunFolder

    keep_programs()
    audited, folder = audit_of(options, command)
    console = Terminal()
    for table in tables.tables(audited):
        console.show(table)
    method = label(audited["method"])
    if "verdict" in audited:
        console.print(audited["verdict"], markup=False, highlight=False)
    for sentence in sentences.verdicts(audited, method):
        console.print(sentence, markup=False, highlight=False)
    print(f"Report: {RunFolder(folder).page}")


def audit_of(options: Audit, command: str) -> tuple[dict[str, Any], Any]:
    """Audit a run or a file of outputs; return the results and the folder of the report."""
    from ltu_jax.runs.audit import audit_run
    from ltu_jax.runs.outputs import audit_outputs, check_path, write_outputs

    given, other = ("run", "outputs") if options.outputs is None else ("outputs", "run")
    if options.run is not None and options.outputs is not None:
        raise InputError("run", "is given, and `outputs` too", "give one of the two")
    for name in OF_OUTPUTS if given == "run" else OF_RUN:
        if getattr(options, name) not in (None, "auto"):
            raise InputError(name, f"does not go with `{given}`", f"give it with `{other}`")
    if options.outputs is not None:
        chosen = {name: getattr(options, name) for name in ("alpha", *OF_OUTPUTS)}
        audited = audit_outputs(options.outputs, **chosen, command=command)
        return audited, audited["folder"]
    if options.run is None:
        raise InputError("run", "is missing", "give the folder of a run, or `outputs`")
    run, made, path = options.run, options.ensembles, options.write_outputs
    if path is not None:
        check_path(path)
    audited = audit_run(
        run, ensembles=made, alpha=options.alpha, command=command, quiet=options.quiet
    )
    if path is not None:
        print(f"Outputs: {write_outputs(run, path, ensembles=made)}")
    return audited, run


def selfcheck(options: Selfcheck) -> None:
    """Run `ltu selfcheck`, print every case, and stop with exit code 1 if one is wrong."""
    from ltu_jax.cli.compilation_cache import keep_programs
    from ltu_jax.runs.selfcheck import run, table

    keep_programs()
    checks = run(options.seed)
    Terminal().show(table(checks))
    wrong = [check.name for check in checks if not check.passed]
    if wrong:
        raise InvariantError(f"selfcheck: wrong answers from {', '.join(wrong)}")


def list_methods() -> None:
    """Print every method with one line and its reference."""
    from rich.table import Table

    from ltu_jax.unlearners import METHODS

    table = Table("method", "what it does", "reference")
    for name, method in METHODS.items():
        table.add_row(name, method.summary, method.reference)
    Terminal().print(table)


def print_version() -> None:
    """Print the version of the package."""
    from importlib.metadata import version

    print(f"ltu-jax {version('ltu-jax')}")


def _stop(message: str, code: int) -> NoReturn:
    write_line(" ".join(["error:", *message.split()]), sys.stderr)  # one line, whatever it holds
    raise SystemExit(code)
