"""`ltu keygen` and `ltu verify`: evidence of a deletion that others can check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

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
        print(f"Not checked: {sentence}")
    print(
        f"{len(found.checks)} numbers: {counts['equal']} agree to the last digit, "
        f"{counts['close']} within the tolerance, {counts['different']} differ."
    )
    if found.different:
        names = [check.name for check in found.different]
        raise InvariantError(f"verify: the report differs in {few(names)}")
