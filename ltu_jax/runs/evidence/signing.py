"""Keys, and signed envelopes (DSSE) around canonical JSON (RFC 8785).

The optional packages of the extra `sign` do the work: securesystemslib signs and verifies, rfc8785
writes canonical JSON. An envelope that this module writes can be verified by any DSSE verifier.
"""

# pyright: reportPrivateImportUsage=false
from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltu_jax import files, paths
from ltu_jax.errors import InputError

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PASSPHRASE = "LTU_KEY_PASSPHRASE"
_PRIVATE = "a private key in PEM or OpenSSH form, such as `ltu keygen` writes"
_PUBLIC = "a public key in PEM or OpenSSH form, such as the .pub file of `ltu keygen`"


def check_installed() -> None:
    """Raise `InputError` unless the packages of the extra `sign` are installed."""
    try:
        import in_toto_attestation.v1.statement
        import rfc8785
        import securesystemslib.dsse
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        problem = f"needs a package that is not installed ({error.name})"
        raise InputError("key", problem, "install it: pip install 'ltu-jax[sign]'") from error
    del in_toto_attestation, rfc8785, securesystemslib, serialization


def make_key(path: str | os.PathLike) -> tuple[Path, Path]:
    """Write a new Ed25519 key pair, the private key to `path` and the public one to `path`.pub.

    Returns:
      Both paths. Only the owner can read the private key.

    Raises:
      InputError: one of the files exists, or cannot be written.
    """
    check_installed()
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = paths.local("key", path)
    public = private.with_name(f"{private.name}.pub")
    for one in (private, public):
        if one.exists():
            raise InputError("key", f"{one} exists; a key is never overwritten", "name a new file")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    shared = key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    try:
        files.create(public, shared)
        try:
            files.create(private, secret, mode=0o600)
        except OSError:
            public.unlink()
            raise
    except OSError as error:
        problem = f"{private} cannot be written ({error.strerror})"
        raise InputError("key", problem, "name another file") from error
    return private, public


def read_signer(path: str | os.PathLike) -> CryptoSigner:
    """Return the signer of a private key: Ed25519, ECDSA or RSA, in PEM or OpenSSH form.

    Raises:
      InputError: the file is missing, is not such a key, or its passphrase is missing or wrong.
    """
    check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as s
    from securesystemslib.signer import CryptoSigner

    data = _read(path, _PRIVATE)
    secret = os.environ.get(PASSPHRASE, "").encode() or None
    load = s.load_ssh_private_key if b"OPENSSH PRIVATE" in data else s.load_pem_private_key
    if b"PRIVATE KEY" not in data:
        raise InputError("key", f"{path} is not a private key", f"give {_PRIVATE}")
    try:
        return CryptoSigner(load(data, secret))
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        problem = f"{path} cannot be used as a private key ({_line(error)})"
        remedy = f"give {_PRIVATE}; {PASSPHRASE} holds its passphrase if it has one"
        raise InputError("key", problem, remedy) from error


def read_public(path: str | os.PathLike) -> SSlibKey:
    """Return a public key: Ed25519, ECDSA or RSA, in PEM or OpenSSH form.

    Raises:
      InputError: the file is missing or is not such a key.
    """
    check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization as s
    from securesystemslib.signer import SSlibKey

    data = _read(path, _PUBLIC)
    if b"PRIVATE KEY" in data:
        raise InputError("key", f"{path} is a private key", f"give {_PUBLIC}")
    load = s.load_pem_public_key if data.lstrip().startswith(b"-----") else s.load_ssh_public_key
    try:
        return SSlibKey.from_crypto(load(data))
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        problem = f"{path} cannot be used as a public key ({_line(error)})"
        raise InputError("key", problem, f"give {_PUBLIC}") from error


def canonical(content: Any) -> bytes:
    """Return JSON values in the canonical form of RFC 8785."""
    import rfc8785

    return rfc8785.dumps(content)


def seal(content: Any, signer: CryptoSigner) -> bytes:
    """Return the signed envelope of JSON values, canonical itself, with a line end."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(canonical(content), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return canonical(envelope.to_dict()) + b"\n"


def content_of(data: bytes) -> Any:
    """Return the JSON values of an envelope without looking at its signatures.

    Raises:
      ValueError: it is not an envelope.
    """
    try:
        return json.loads(base64.b64decode(json.loads(data)["payload"], validate=True))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"is not a signed envelope ({_line(error)})") from error


def check_signed(data: bytes, key: SSlibKey, name: str) -> None:
    """Check that an envelope is exactly what the owner of a key wrote.

    Args:
      data: content of the file of the envelope.
      key: public key of the owner.
      name: of the file, for errors.

    Raises:
      InputError: another key signed it.
      ValueError: what else is wrong with it.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError

    try:
        envelope = Envelope.from_dict(json.loads(data))
        is_canonical = data == canonical(envelope.to_dict()) + b"\n"
    except (ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
        raise ValueError(f"is not a signed envelope ({_line(error)})") from error
    if not is_canonical or envelope.payload_type != PAYLOAD_TYPE:
        raise ValueError("was edited: it is not the canonical form of a signed statement")
    if key.keyid not in envelope.signatures:
        _check_other_keys(envelope, key, name)
    try:
        envelope.verify([key], 1)
    except VerificationError as error:
        raise ValueError("was edited: its content does not have its signature") from error
    if canonical(json.loads(envelope.payload)) != envelope.payload:
        raise ValueError("is not canonical JSON (RFC 8785)")


def _check_other_keys(envelope: Envelope, key: SSlibKey, name: str) -> None:
    """Raise the error of an envelope that does not name a key as that of its signature."""
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature

    if not envelope.signatures:
        raise ValueError("has no signature")
    for one in envelope.signatures.values():
        try:
            key.verify_signature(Signature(key.keyid, one.signature), envelope.pae())
        except UnverifiedSignatureError:
            continue
        raise ValueError("was edited: it names another key than the one that signed it")
    remedy = "give the public key of the signer"
    raise InputError("key", f"is not the key that signed {name}", remedy)


def _read(path: str | os.PathLike, expected: str) -> bytes:
    try:
        return paths.local("key", path).read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise InputError("key", problem, f"give {expected}") from error


def _line(error: BaseException) -> str:
    """Return the first words of an error of another library on one line."""
    return " ".join(str(error).split())[:120] or type(error).__name__
