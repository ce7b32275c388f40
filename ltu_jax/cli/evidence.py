"""`ltu keygen`, `verify` and `forget-files`: evidence of a deletion that others can check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ltu_jax.cli.flags import spelled
from ltu_jax.errors import InvariantError, few

_Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
_Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Verify:
    """Compute the numbers of a finished report again, and compare them with it.

    - From the stored outputs (scores.npz): in seconds, without models or data.
    - With --full from the checkpoints: needs the data set, on the same kind of
      device for the same digits.

    Ends with exit code 1 and names the numbers if any differ.

      ltu verify RUN
      ltu verify RUN --full
    """

    run: _Run
    """Folder of a finished run; nothing in it changes."""
    full: tyro.conf.FlagCreatePairsOff[bool] = False
    """Compute from the checkpoints and the data set."""
    ensembles: _Folder = None
    """With --full: folder of the ensembles of the run's audit, to repeat its tests on them."""
    tolerance: Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="")] = None
    """Largest difference that counts as close, relative to the number or 1; 1e-6, --full 1e-3."""


@dataclass(frozen=True)
class Keygen:
    """Make a key pair for ltu ledger sign: Ed25519, without a passphrase.

    KEY is the private key: keep it secret, where the runs are not. KEY.pub is for
    anyone who verifies. Keys of openssl and ssh-keygen work as well.

      ltu keygen KEY
    """

    key: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KEY")]
    """New file of the private key; the public key is written to KEY.pub."""


def keygen(options: Keygen) -> None:
    """Run `ltu keygen` and print where the keys are."""
    from ltu_jax.runs.evidence import make_key

    private, public = make_key(options.key)
    print(f"Private key: {private}")
    print(f"Public key:  {public}")


@dataclass(frozen=True)
class ForgetFiles:
    """List what is left of forgotten examples on the disk, and delete it if asked to.

    - RUN is the folder of a run: all runs of its sequence are covered, with their
      queues. It may also be an ensemble, a folder of them, or the cache of ltu
      compare.
    - Nothing changes without --delete. Then the models that were trained on
      forgotten examples, row numbers, scores and losses are deleted; the unlearned
      model, the report and the ledger stay.
    - A record with the digests before and after is written first.

      ltu forget-files RUN
      ltu forget-files RUN --delete --key KEY
    """

    run: _Run
    """Folder of a run, of ensembles, or of cached models."""
    delete: tyro.conf.FlagCreatePairsOff[bool] = False
    """Delete and rewrite the files; without this option they are only listed."""
    keep_rows: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep split.npz and history.npz, without which no request can follow in the sequence."""
    key: Annotated[Path | None, tyro.conf.arg(metavar="KEY", help_behavior_hint="")] = None
    """Private key that signs the record, see ltu keygen."""


def forget_files(options: ForgetFiles) -> None:
    """Run `ltu forget-files` and print every file, what is done to it, and why."""
    from ltu_jax.runs import evidence

    found = evidence.forget_files(
        options.run, delete=options.delete, keep_rows=options.keep_rows, key=options.key
    )
    for item in found.items:
        print(f"{item.action:<8} {item.path}: {item.reason}")
    changed = sum(item.action in ("delete", "strip") for item in found.items)
    if changed:
        print("No longer possible after that:" if not options.delete else "No longer possible:")
        print("\n".join(f"  {sentence}" for sentence in found.no_longer))
    if not options.delete:
        print(f"Nothing was changed. {changed} files and folders would be, with --delete.")
    elif found.record is None:
        print("Nothing was left to delete.")
    else:
        print(f"Record: {found.record}")


def verify(options: Verify) -> None:
    """Run `ltu verify` and print which numbers agree; stop with exit code 1 if some differ."""
    from ltu_jax.cli.compilation_cache import keep_programs
    from ltu_jax.runs.evidence import verify_run

    if options.full:
        keep_programs()
    found = verify_run(
        options.run,
        full=options.full,
        ensembles=options.ensembles,
        tolerance=options.tolerance,
    )
    counts = {name: 0 for name in ("equal", "close", "different")}
    for check in found.checks:
        counts[check.agreement] += 1
        if check.agreement != "equal":
            print(f"{check.agreement}: {check.name} is {check.stored}, computed now {check.found}")
    for sentence in found.unchecked:
        print(f"Not checked: {spelled(sentence, options)}")
    print(
        f"{len(found.checks)} numbers: {counts['equal']} agree to the last digit, "
        f"{counts['close']} within the tolerance, {counts['different']} differ."
    )
    if found.different:
        names = [check.name for check in found.different]
        raise InvariantError(f"verify: the report differs in {few(names)}")
