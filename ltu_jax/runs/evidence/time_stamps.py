"""Trusted time (RFC 3161): the check of a stored token, without a network.

`statements/entry-0001.tsr` is the response of a time stamp authority to the file
`entry-0001.json`. Any client can ask for it; `openssl ts` does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltu_jax import paths
from ltu_jax.errors import InputError
from ltu_jax.runs.evidence import signing

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def read_roots(path: str | os.PathLike) -> list[Certificate]:
    """Return the certificates of a PEM file.

    Raises:
      InputError: it is missing or holds none, or the package that verifies tokens is missing.
    """
    try:
        import rfc3161_client
        from cryptography import x509
    except ImportError as error:
        problem = f"needs a package that is not installed ({error.name})"
        raise InputError("tsa_root", problem, "install it: pip install 'ltu-jax[sign]'") from error
    del rfc3161_client
    try:
        return x509.load_pem_x509_certificates(paths.local("tsa_root", path).read_bytes())
    except (OSError, ValueError) as error:
        problem = f"{path} holds no certificate ({' '.join(str(error).split())[:100]})"
        remedy = "give the authority's root certificate in PEM form"
        raise InputError("tsa_root", problem, remedy) from error


def check(statement: Path, roots: list[Certificate] | None) -> list[str]:
    """Check the time stamp of a statement, if it has one.

    Returns:
      What could not be checked, one sentence each.

    Raises:
      ValueError: the token is not one of this file, its certificate does not lead to a root, or its
        time is before the statement's own.
      InputError: a certificate was not valid at the time of the token.
    """
    token = statement.with_suffix(".tsr")
    if not token.exists():
        return []
    if roots is None:
        return [f"{token.name}: give `tsa_root`, the root certificate of its authority."]
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    name = f"{token.parent.name}/{token.name}"
    response = None
    try:
        response = decode_timestamp_response(token.read_bytes())
        verifier = VerifierBuilder(roots=list(roots)).build()
        verifier.verify_message(response, statement.read_bytes())
    except (VerificationError, ValueError) as error:
        if response is not None and (expired := _out_of_force(response, roots)):
            remedy = "have the statement stamped again"
            raise InputError("tsa_root", f"{name} {expired}", remedy) from None
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{name} is not a valid time stamp of {statement.name}: {reason}"
        ) from None
    _check_order(signing.content_of(statement.read_bytes()), response.tst_info.gen_time, name)
    return []


def _out_of_force(response: Any, roots: list[Certificate]) -> str | None:
    """Return what is wrong if a certificate was not valid at the time of a token."""
    from cryptography.x509 import load_der_x509_certificate

    try:
        stamped = response.tst_info.gen_time
        held = [load_der_x509_certificate(one) for one in response.signed_data.certificates]
    except ValueError:  # damaged, which the caller says
        return None
    for one in (*held, *roots):
        if not one.not_valid_before_utc <= stamped <= one.not_valid_after_utc:
            valid = f"{one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}"
            return f"is of {stamped:%Y-%m-%d}; its certificate was valid from {valid}"
    return None


def _check_order(statement: Any, stamped: Any, name: str) -> None:
    """Raise `ValueError` if the time of a token is before the deletion that it confirms."""
    made = statement["predicate"]["entry"]["time"]
    if stamped.strftime("%Y-%m-%dT%H:%M:%SZ") < made:
        raise ValueError(f"{name} has the time {stamped}, before the deletion of {made}")
