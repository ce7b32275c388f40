"""`ltu ledger` and `ltu queue`: what a model has forgotten, and what it has yet to forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from ltu_jax.cli.flags import spelled
from ltu_jax.cli.options import Ledger, Queue
from ltu_jax.errors import InputError
from ltu_jax.terminal import Terminal

# The options of `ltu queue` that belong to each action.
OF_ACTION = {
    "add": ("forget_ids", "forget_id_column"),
    "show": (),
    "remove": ("request",),
    "run": ("reference", "out", "quiet"),
}


# The options of `ltu ledger` that belong to each action.
OF_LEDGER = {"show": (), "sign": ("key",), "verify": ("key", "head", "tsa_root")}


def ledger(options: Ledger) -> None:
    """Run `ltu ledger show`, `sign` or `verify`."""
    _check_allowed(options, "ltu ledger", OF_LEDGER[options.action])
    from ltu_jax.runs import evidence
    from ltu_jax.runs.folder import RunFolder
    from ltu_jax.runs.sequential import ledger as ledgers

    if options.action == "show":
        _print_entries(ledgers.read(options.run))
        return
    if options.action == "sign":
        if options.key is None:
            raise InputError("key", "is missing", "give the private key; `ltu keygen` makes one")
        print(f"Signed statement: {evidence.sign(options.run, options.key)}")
        return
    unchecked = evidence.verify(
        options.run, key=options.key, head=options.head, tsa_root=options.tsa_root
    )
    entries = ledgers.read(options.run)
    for sentence in unchecked:
        print(f"Not checked: {spelled(sentence, options)}")
    count = f"{len(entries)} entr{'y' if len(entries) == 1 else 'ies'}"
    print(f"{RunFolder(options.run).ledger}: {count}, nothing was edited.")
    print(f"Newest entry's SHA-256: {entries[-1]['sha256']}")


def queue(options: Queue, command: str) -> None:
    """Run `ltu queue add`, `show`, `remove` or `run`."""
    _check_allowed(options, "ltu queue", OF_ACTION[options.action])
    if options.action == "add":
        _add(options)
    elif options.action == "show":
        _print_pending(options)
    elif options.action == "remove":
        _remove(options)
    else:
        _complete(options, command)


def _check_allowed(options: Ledger | Queue, command: str, names: Sequence[str]) -> None:
    """Raise `InputError` if an option is given that belongs to another action."""
    for field in fields(options):
        others = field.name not in ("action", "run", *names)
        if others and getattr(options, field.name) != field.default:
            problem = f"is not for {command} {options.action}"
            raise InputError(field.name, problem, "leave it out")


def _add(options: Queue) -> None:
    if options.forget_ids is None:
        raise InputError("forget_ids", "is missing", "give the file of ids to queue")
    from ltu_jax.data.request import by_ids
    from ltu_jax.runs.sequential.queue import add

    request = by_ids(options.forget_ids, column=options.forget_id_column)
    added = add(options.run, request)
    print(f"Request {added.name}: {len(added.ids)} ids are pending.")


def _remove(options: Queue) -> None:
    if options.request is None:
        raise InputError("request", "is missing", "name it as `ltu queue show` does")
    from ltu_jax.runs.sequential.queue import remove

    removed = remove(options.run, options.request)
    print(f"Request {removed.name} is removed; its {len(removed.ids)} ids are not forgotten.")


def _print_pending(options: Queue) -> None:
    from ltu_jax.runs.sequential.queue import show

    waiting = show(options.run)
    for pending in waiting:
        state = ", in a deletion that has begun" if pending.in_batch else ""
        print(f"Request {pending.name}: {len(pending.ids)} ids{state}")
    print(f"{len(waiting)} pending, {sum(len(pending.ids) for pending in waiting)} ids in all.")


def _complete(options: Queue, command: str) -> None:
    from ltu_jax.cli import unlearn
    from ltu_jax.cli.compilation_cache import prepare
    from ltu_jax.runs.sequential.queue import complete

    prepare()
    result = complete(
        options.run,
        out=options.out,
        reference=options.reference,
        quiet=options.quiet,
        command=command,
    )
    if result is None:
        print("The pending requests had been completed before; they are deleted now.")
    else:
        unlearn.show(result)


def _print_entries(entries: list[dict]) -> None:
    """Print a line for each deletion, and the drift after the last."""
    from rich import box
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
    Terminal().show(table)
    print("Gap and floor: distance to Retrain on the same remaining set, in percentage points.")
    print("Utility: percentage points of test accuracy since the last training.")
    print("AUC: the loss attack's, on everything forgotten so far, in percent.")
    print(entries[-1]["drift"]["sentence"])
    for entry in entries:
        if entry["completed"]:
            print(f"Entry {entry['entry']} completed {', '.join(entry['completed'])}")
    print(f"Newest entry's SHA-256: {entries[-1]['sha256']}")
