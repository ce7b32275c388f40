"""The signed statement of a deletion: an in-toto Statement v1 about the newest ledger entry.

Its subjects are the files of the unlearned checkpoint and of the report. Its predicate, described
by `deletion.schema.json`, holds the ledger's entry, the metrics, what the report answers and the
materials: digests of parent checkpoint, data, settings and code. `RUN/statements/entry-0001.json`
is the statement of the first entry, in a signed envelope; the next run of a sequence copies it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import scipy

import ltu_jax.runs.sequential.ledger as ledger
from ltu_jax import files
from ltu_jax.audit.summary import GAP_METRICS
from ltu_jax.errors import InputError
from ltu_jax.report.answers import answers
from ltu_jax.report.content import ReportContent, find_row, measured, plain
from ltu_jax.report.noise import EXAMPLES
from ltu_jax.report.read import read_content
from ltu_jax.runs import lock
from ltu_jax.runs.evidence import signing
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_spec

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://github.com/ltu-jax/ltu_jax/deletion/v1"
SCHEMA = Path(__file__).with_name("deletion.schema.json")


def sign(run: str | os.PathLike, key: str | os.PathLike) -> Path:
    """Sign the statement of a run's newest ledger entry; one that is there is replaced.

    Args:
      run: the folder of a finished run, whose ledger, models and report must agree.
      key: file of the private key.

    Returns:
      The file of the statement.

    Raises:
      InputError: the folder holds no finished run, or the key cannot be used.
      TamperedError: ledger, models and report do not agree.
    """
    signer, folder = signing.read_signer(key), RunFolder(run)
    load_spec(run)
    if folder.is_unfinished():
        raise InputError("run", f"{folder} holds an unfinished run", "finish it with `resume`")
    with lock.claim(folder.path, "run"):
        ledger.verify(run)
        statement = build(folder)
        check_valid(statement)
        path = path_of(folder, statement["predicate"]["entry"]["entry"])
        path.with_suffix(".tsr").unlink(missing_ok=True)  # the time stamp of another statement
        files.write(path, signing.seal(statement, signer))
    return path


def build(folder: RunFolder) -> dict[str, Any]:
    """Return the statement of the newest ledger entry of a run."""
    entries = ledger.read(folder)
    content = read_content(folder.report, folder.scores, folder.metrics)
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects(folder),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "entry": entries[-1],
            "previous": _previous(folder, len(entries) - 1),
            "materials": materials(folder, entries[-1]),
            "metrics": _metrics(content),
            **answers(content),
        },
    }


def subjects(folder: RunFolder) -> list[dict[str, Any]]:
    """Return name and digest of every file of the unlearned checkpoint and of the report."""
    checkpoint = files.file_digests(folder.unlearned)
    found = {f"{folder.unlearned.name}/{name}": value for name, value in checkpoint.items()}
    for path in (folder.report, folder.page, folder.audit):
        if path.exists():
            found[path.name] = files.digest(path.read_bytes())
    return [{"name": name, "digest": {"sha256": value}} for name, value in sorted(found.items())]


def materials(folder: RunFolder, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the deletion was made from: parent checkpoint, data, settings and code.

    The digests of checkpoint and data are those of their arrays, not of files.
    """
    data = files.read_checksummed(folder.spec)["data_sha256"]
    version = entry["versions"]["ltu-jax"]
    return [
        {"name": "parent checkpoint", "digest": {"sha256": entry["parent"]}},
        {"name": "data", "digest": {"sha256": data}},
        {
            "name": folder.spec.name,
            "digest": {"sha256": files.digest(folder.spec.read_bytes())},
        },
        {
            "name": "code",
            "uri": f"pkg:pypi/ltu-jax@{version}",
            "digest": {"sha256": code_digest()},
        },
    ]


def code_digest() -> str:
    """Return the SHA-256 over the source files of the installed package."""
    root = Path(__file__).parents[2]
    sources = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.py")}
    return files.json_digest({name: files.digest(data) for name, data in sources.items()})


def check_valid(statement: Mapping[str, Any]) -> None:
    """Check a statement with in-toto's own library.

    Raises:
      ValueError: it is not a valid Statement v1.
    """
    from google.protobuf import json_format
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import (
        Statement as Message,  # pyright: ignore[reportAttributeAccessIssue]
    )

    try:
        message = json_format.ParseDict(dict(statement), Message())
    except json_format.ParseError as error:
        raise ValueError(f"is not an in-toto statement ({error})") from error
    Statement.copy_from_pb(message).validate()


def path_of(folder: RunFolder, number: int) -> Path:
    """Return the file of the statement of an entry."""
    return folder.statements / f"entry-{number:04d}.json"


def _previous(folder: RunFolder, number: int) -> str | None:
    """Return the SHA-256 of the statement before, None if there is none."""
    path = path_of(folder, number)
    return files.digest(path.read_bytes()) if path.exists() else None


def _metrics(content: ReportContent) -> dict[str, Any]:
    """Return the four rates of every model in percent, each with its 95 % interval."""
    sizes = content.run["sizes"]
    return plain(
        {
            row["model"]: {
                name: _with_interval(find_row(content, row["model"]).get(name), sizes[part])
                for name, part in EXAMPLES.items()
                if name in GAP_METRICS
            }
            for row in content.rows
        }
    )


def _with_interval(value: Any, count: int) -> dict[str, Any]:
    """Return a rate with its exact binomial interval (Clopper-Pearson)."""
    if not measured(value) or count == 0:
        return {"value": None, "interval": None}
    found = scipy.stats.binomtest(round(value / 100 * count), count).proportion_ci()
    return {"value": value, "interval": [100 * found.low, 100 * found.high]}
