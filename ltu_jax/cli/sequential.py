"""`ltu ledger` and `ltu queue`: what a model has forgotten so far, and what it still has to."""

from __future__ import annotations

from dataclasses import fields

from ltu_jax.cli.options import Ledger, Queue
from ltu_jax.errors import InputError

# Which options of `ltu queue` belong to which action.
OF_ACTION = {
    "add": ("forget_ids", "forget_id_column"),
    "show": (),
    "run": ("reference", "out", "quiet"),
}


def ledger(options: Ledger) -> None:
    """Run `ltu ledger show` or `ltu ledger verify`; an edit is raised as a `TamperedError`."""
    from ltu_jax.runs.sequential import ledger as ledgers

    if options.action == "show":
        if options.head is not None:
            raise InputError(f"--head {options.head}: is for verify; leave it out")
        _print_entries(ledgers.read(options.run))
        return
    unchecked = ledgers.verify(options.run, head=options.head)
    entries = ledgers.read(options.run)
    for sentence in unchecked:
        print(f"Not checked: {sentence}")
    count = f"{len(entries)} entr{'y' if len(entries) == 1 else 'ies'}"
    print(f"{options.run / ledgers.NAME}: {count}, nothing was edited.")
    print(f"Newest entry's SHA-256: {entries[-1]['sha256']}")


def queue(options: Queue, command: str) -> None:
    """Run `ltu queue add`, `show` or `run`."""
    allowed = {"action", "run", *OF_ACTION[options.action]}
    for field in fields(options):
        if field.name not in allowed and getattr(options, field.name) != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            raise InputError(f"{flag}: is not for ltu queue {options.action}; leave it out")
    if options.action == "add":
        _add(options)
    elif options.action == "show":
        _print_pending(options)
    else:
        _serve(options, command)


def _add(options: Queue) -> None:
    if options.forget_ids is None:
        raise InputError("--forget-ids: is missing; give the file of ids to queue")
    from ltu_jax.data.request import by_ids
    from ltu_jax.runs.sequential import queue as pending

    request = by_ids(options.forget_ids, column=options.forget_id_column)
    filed = pending.add(options.run, request)
    print(f"Request {filed.name}: {len(filed.ids)} ids are pending.")


def _print_pending(options: Queue) -> None:
    from ltu_jax.runs.sequential import queue as pending

    waiting = pending.show(options.run)
    for one in waiting:
        state = ", being answered" if one.in_batch else ""
        print(f"Request {one.name}: {len(one.ids)} ids{state}")
    print(f"{len(waiting)} pending, {sum(len(one.ids) for one in waiting)} ids in all.")


def _serve(options: Queue, command: str) -> None:
    from absl import logging
    from rich.console import Console

    from ltu_jax.cli import compilation_cache as programs
    from ltu_jax.report.result_table import result_table
    from ltu_jax.runs.sequential import queue as pending

    logging.set_verbosity(logging.FATAL)  # Orbax logs tracebacks of what it raises as well
    programs.keep_programs()
    begun = {"reference": options.reference, "quiet": options.quiet, "command": command}
    result = pending.serve(options.run, out=options.out, **begun)
    if result is None:
        print("The pending requests were answered before; their files are deleted now.")
        return
    Console().print(result_table([row._asdict() for row in result.rows]))
    print(f"Unlearned checkpoint: {result.folder / 'unlearned'}")
    print(f"Report:               {result.folder / 'report.html'}")


def _print_entries(entries: list[dict]) -> None:
    """Print a line for each deletion, and what they have come to."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ltu_jax.report.content import number, signed

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    for header in ("", "time (UTC)", "method", "examples", "gap", "floor", "utility", "AUC"):
        justify = "left" if header in ("time (UTC)", "method") else "right"
        table.add_column(header, justify=justify, no_wrap=True)
    for entry in entries:
        drift, metrics = entry["drift"], entry["metrics"]
        table.add_row(
            str(entry["entry"]),
            entry["time"][:16].replace("T", " "),
            entry["method"],
            f"{entry['forgotten']['count']:,}",
            number(metrics["avg_gap"]),
            number(metrics["floor"]),
            signed(drift["utility_since_training"]),
            number(drift["auc"]),
        )
    Console().print(table)
    print("Gap and floor: to Retrain on the same remaining set, in points. Utility: points of test")
    print("accuracy since the last training. AUC: the loss attack on everything forgotten so far.")
    print(entries[-1]["drift"]["sentence"])
    for entry in entries:
        if entry["served"]:
            print(f"Entry {entry['entry']} answered {', '.join(entry['served'])}")
    print(f"Newest entry's SHA-256: {entries[-1]['sha256']}")
