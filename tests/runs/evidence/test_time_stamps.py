"""Tokens of a time stamp authority made here: the right one is accepted, all others are not."""

import datetime
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ltu_jax.errors import TamperedError
from ltu_jax.runs.evidence import sign, verify
from tests.refusals import refused

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the tokens")

CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_chain = no
"""


def certificate(name, key, issuer, issuer_key, days, extensions):
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Make an authority; its certificates are valid for these days from now."""
    root_key, tsa_key = (rsa.generate_private_key(65537, 2048) for _ in range(2))

    def make(days=(-1, 30), name="root"):
        folder = tmp_path_factory.mktemp("tsa")
        ca = x509.BasicConstraints(ca=True, path_length=None)
        root = certificate(name, root_key, name, root_key, (-900, 900), [ca])
        use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        signer = certificate("tsa", tsa_key, name, root_key, days, [use])
        pem = s.Encoding.PEM
        (folder / "root.pem").write_bytes(root.public_bytes(pem))
        (folder / "tsa.pem").write_bytes(signer.public_bytes(pem))
        (folder / "tsa.key").write_bytes(
            tsa_key.private_bytes(pem, s.PrivateFormat.PKCS8, s.NoEncryption())
        )
        (folder / "serial").write_text("01")
        (folder / "tsa.conf").write_text(CONFIG.format(folder=folder))
        return folder

    return make


def stamp(folder, statement):
    """What the page says: a query by openssl, answered by the authority."""
    query = folder / "query.tsq"
    openssl = ["openssl", "ts"]
    asked = ["-query", "-data", statement, "-sha256", "-cert", "-out", query]
    answered = ["-reply", "-config", folder / "tsa.conf", "-section", "one", "-queryfile", query]
    answered += ["-signer", folder / "tsa.pem", "-inkey", folder / "tsa.key"]
    answered += ["-out", statement.with_suffix(".tsr")]
    for command in (asked, answered):
        subprocess.run([*openssl, *map(str, command)], check=True, capture_output=True)


@pytest.fixture
def statement(signed):
    return signed.run / "statements" / "entry-0001.json"


def test_a_token_of_the_statement_is_accepted(signed, statement, authority):
    made = authority()
    stamp(made, statement)
    assert verify(signed.run, key=signed.public, tsa_root=made / "root.pem") == []
    (sentence,) = verify(signed.run, key=signed.public)
    assert sentence.startswith("entry-0001.tsr")


def test_a_token_of_another_file_or_authority(signed, statement, authority):
    made, other = authority(), authority(name="other")
    stamp(made, statement)
    with pytest.raises(TamperedError, match=r"entry-0001\.tsr"):
        verify(signed.run, key=signed.public, tsa_root=other / "root.pem")
    token = statement.with_suffix(".tsr")
    good = token.read_bytes()
    for data in (b"", b"\x00", good[:-10], good.replace(b"\x04\x20", b"\x04\x21", 1)):
        token.write_bytes(data)
        with pytest.raises(TamperedError, match=r"entry-0001\.tsr"):
            verify(signed.run, key=signed.public, tsa_root=made / "root.pem")
    stamp(made, signed.run / "report.json")
    shutil.move(signed.run / "report.tsr", token)
    with pytest.raises(TamperedError, match=r"entry-0001\.tsr"):
        verify(signed.run, key=signed.public, tsa_root=made / "root.pem")


def test_a_token_of_an_expired_certificate(signed, statement, authority):
    made = authority(days=(-30, -1))
    stamp(made, statement)
    with refused("tsa_root", "entry-0001.tsr"):
        verify(signed.run, key=signed.public, tsa_root=made / "root.pem")


def test_signing_again_removes_the_token(signed, statement, authority):
    stamp(authority(), statement)
    sign(signed.run, signed.private)
    assert not statement.with_suffix(".tsr").exists()


def test_files_that_are_not_certificates(signed, tmp_path):
    wrong = tmp_path / "root.pem"
    for path in (wrong, signed.public):
        with refused("tsa_root", str(path)):
            verify(signed.run, tsa_root=path)
