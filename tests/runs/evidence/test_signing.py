"""Statements that other tools accept; every edit and every wrong key is refused by name."""

import base64
import json
import re
import shutil
import time
from pathlib import Path

import jsonschema
import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

import ltu_jax
from ltu_jax import files
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError, TamperedError
from ltu_jax.runs.evidence import make_key, sign, signing, verify
from ltu_jax.runs.evidence.statement import SCHEMA, path_of
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.sequential import ledger
from tests import tiny
from tests.refusals import refused


def envelope_of(run, number=1):
    return path_of(RunFolder(run), number)


def code_of(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, arguments)))
    return stopped.value.code


def test_the_reference_tools_accept_it(signed_once):
    data = json.loads(envelope_of(signed_once.run).read_bytes())
    public = s.load_pem_public_key(signed_once.public.read_bytes())
    key = SSlibKey.from_crypto(public)
    envelope = Envelope.from_dict(data)
    assert envelope.verify([key], 1) == {key.keyid: key}
    content = json.loads(envelope.payload)
    Statement.copy_from_pb(json_format.ParseDict(content, Message())).validate()
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))


def test_the_example_of_the_page(signed_once):
    page = Path(__file__).parents[3] / "docs" / "evidence.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    path = envelope_of(signed_once.run)
    statement = names["statement"](path, signed_once.public)
    assert statement == signing.content_of(path.read_bytes())


def test_the_statement_says_what_was_done(signed_once):
    folder = RunFolder(signed_once.run)
    content = signing.content_of(envelope_of(folder).read_bytes())
    subjects = {one["name"]: one["digest"]["sha256"] for one in content["subject"]}
    assert subjects["report.json"] == files.digest(folder.report.read_bytes())
    assert any(name.startswith("unlearned/") for name in subjects)
    predicate = content["predicate"]
    assert predicate["entry"] == ledger.read(folder)[-1]
    names = [one["name"] for one in predicate["materials"]]
    assert names == ["parent checkpoint", "data", "run.json", "code"]
    assert predicate["guarantee"]["type"] == "empirical"
    low, high = predicate["metrics"]["finetune"]["ua"]["interval"]
    assert low <= predicate["metrics"]["finetune"]["ua"]["value"] <= high
    assert not any(name in json.dumps(content) for name in tiny.FORGOTTEN)


def test_a_run_that_was_left_alone_is_verified(signed_once, capsys):
    assert verify(signed_once.run, key=signed_once.public) == []
    assert len(verify(signed_once.run)) == 1
    main(["ledger", "verify", str(signed_once.run), "--key", str(signed_once.public)])
    assert "nothing was edited" in capsys.readouterr().out


PLACES = [
    (name, share)
    for name in (
        "unlearned",
        "report.json",
        "report.html",
        "ledger.jsonl",
        "ledger.salts.json",
        "statements/entry-0001.json",
        "run.json",
    )
    for share in (0.0, 0.15, 0.35, 0.55, 0.75, 0.9, 1.0)
]


@pytest.mark.parametrize(("name", "share"), PLACES)
def test_a_changed_bit_is_refused_by_name(signed, name, share):
    path = signed.run / name
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.is_file() and one.stat().st_size)
        path = inside[int(share * (len(inside) - 1))]
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(TamperedError) as caught:
        verify(signed.run, key=signed.public)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_statement_is_edited_in_every_field_in_vain(signed):
    """An attacker without the key who writes a well-formed envelope."""
    path = envelope_of(signed.run)
    good = json.loads(path.read_bytes())
    payload = base64.b64decode(good["payload"])
    other = signing.canonical({**json.loads(payload), "subject": []})
    for change in (
        {"payload": base64.b64encode(other).decode()},
        {"payloadType": "text/plain"},
        {"signatures": []},
        {"signatures": good["signatures"] * 2},
        {"signatures": [{**good["signatures"][0], "keyid": "0" * 64}]},
        {"extra": 1},
    ):
        path.write_bytes(signing.canonical({**good, **change}) + b"\n")
        with pytest.raises(TamperedError, match=r"entry-0001\.json"):
            verify(signed.run, key=signed.public)
    for data in (b"", b"[]", b"{}", b"null", b"\xff", json.dumps(good, indent=1).encode()):
        path.write_bytes(data)
        with pytest.raises(TamperedError, match=r"entry-0001\.json"):
            verify(signed.run, key=signed.public)


def test_a_signature_by_another_key(signed, tmp_path, capsys):
    _, other = make_key(tmp_path / "other")
    with pytest.raises(InputError, match=r"entry-0001\.json") as caught:
        verify(signed.run, key=other)
    assert caught.value.argument == "key"
    assert not isinstance(caught.value, TamperedError)
    assert code_of("ledger", "verify", signed.run, "--key", other) == 2
    assert "--key" in capsys.readouterr().err


def test_a_statement_that_is_missing_doubled_or_of_another_run(signed):
    path = envelope_of(signed.run)
    shutil.copy(path, envelope_of(signed.run, 2))
    with refused("run", "entry-0002.json"):
        verify(signed.run, key=signed.public)
    path.unlink()
    with pytest.raises(TamperedError, match=r"entry-0002\.json holds entry 1; it was renamed"):
        verify(signed.run, key=signed.public)
    envelope_of(signed.run, 2).unlink()
    with pytest.raises(TamperedError, match=r"entry-0001\.json is missing"):
        verify(signed.run, key=signed.public)
    assert "not signed" in verify(signed.run)[-1]


def test_added_and_missing_files_of_the_checkpoint(signed):
    (signed.run / "unlearned" / "extra").write_bytes(b"1")
    with pytest.raises(TamperedError, match="unlearned/extra"):
        verify(signed.run, key=signed.public)


def test_deleted_files_are_listed(signed):
    for path in (signed.run / "report.html", RunFolder(signed.run).salts):
        path.unlink()
    shutil.rmtree(RunFolder(signed.run).original)
    unchecked = verify(signed.run, key=signed.public)
    for name in ("original", "ledger.salts.json", "report.html"):
        assert any(sentence.startswith(name) for sentence in unchecked)


def test_only_what_agrees_is_signed(signed):
    before = envelope_of(signed.run).read_bytes()
    path = RunFolder(signed.run).ledger
    path.write_bytes(path.read_bytes().replace(b'"seed":0', b'"seed":1'))
    with pytest.raises(TamperedError, match=r"ledger\.jsonl"):
        sign(signed.run, signed.private)
    assert envelope_of(signed.run).read_bytes() == before


@pytest.mark.slow
def test_twenty_signed_entries_are_verified_in_five_seconds(signed):
    folder = RunFolder(signed.run)
    first = ledger.read(folder)[0]
    content = {name: first[name] for name in ledger.FIELDS if name in first}
    for name in ("entry", "previous", "forgotten", "sha256"):
        del content[name]
    for _ in range(19):
        entry = ledger.append(folder, content | {"parent": first["child"]}, ["1"], before=folder)
        report = json.loads(folder.report.read_text())
        report["ledger"] |= {"entry": entry["entry"], "sha256": entry["sha256"]}
        folder.report.write_text(json.dumps(report))
        shutil.rmtree(folder.original)
        shutil.copytree(folder.unlearned, folder.original)
        sign(folder, signed.private)
    start = time.perf_counter()
    assert verify(folder, key=signed.public) == []
    assert time.perf_counter() - start < 5
    assert len(list(folder.statements.iterdir())) == 20
    middle = envelope_of(folder, 7)
    middle.write_bytes(envelope_of(folder, 8).read_bytes())
    with pytest.raises(TamperedError, match=r"entry-0007\.json"):
        verify(folder, key=signed.public)


@pytest.mark.slow
def test_the_next_run_keeps_the_statements(signed, tmp_path):
    after = ltu_jax.unlearn_next(
        signed.run,
        ["patient-0001"],
        data=tiny.table(),
        reference="none",
        out=tmp_path / "next",
        quiet=True,
    ).folder
    with pytest.raises(TamperedError, match=r"entry-0002\.json is missing"):
        verify(after, key=signed.public)
    sign(after, signed.private)
    assert verify(after, key=signed.public) == []


def pem(key):
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())


def public_pem(key):
    return key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("form", ["ec", "rsa", "ssh", "encrypted"])
def test_keys_of_other_tools(signed, tmp_path, monkeypatch, form):
    key = {
        "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }.get(form, ed25519.Ed25519PrivateKey.generate)()
    private, public = tmp_path / "key", tmp_path / "key.pub"
    private.write_bytes(pem(key))
    public.write_bytes(public_pem(key))
    if form == "ssh":
        secret = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption())
        private.write_bytes(secret)
        shared = key.public_key().public_bytes(s.Encoding.OpenSSH, s.PublicFormat.OpenSSH)
        public.write_bytes(shared + b" someone@host\n")
    if form == "encrypted":
        lock = s.BestAvailableEncryption(b"secret")
        private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, lock))
        for word in (None, "wrong"):
            if word:
                monkeypatch.setenv(signing.PASSPHRASE, word)
            with refused("key", str(private)):
                sign(signed.run, private)
        monkeypatch.setenv(signing.PASSPHRASE, "secret")
    sign(signed.run, private)
    assert verify(signed.run, key=public) == []


def test_keys_that_cannot_be_used(signed, tmp_path, capsys):
    before = sorted(signed.run.rglob("*"))
    wrong = tmp_path / "wrong"
    exchange = x25519.X25519PrivateKey.generate()
    for content in (b"", b"\xff\x00", b"hello", pem(exchange), signed.public.read_bytes()):
        wrong.write_bytes(content)
        with refused("key", str(wrong)):
            sign(signed.run, wrong)
    for content in (b"", b"\xff\x00", public_pem(exchange), signed.private.read_bytes()):
        wrong.write_bytes(content)
        with refused("key", str(wrong)):
            verify(signed.run, key=wrong)
    for function in (lambda key: sign(signed.run, key), lambda key: verify(signed.run, key=key)):
        with refused("key"):
            function(tmp_path / "lost")
    assert code_of("ledger", "sign", signed.run) == 2
    assert code_of("ledger", "sign", signed.run, "--key", tmp_path / "lost") == 2
    assert code_of("ledger", "sign", signed.run, "--key", signed.private, "--head", "0") == 2
    assert code_of("ledger", "show", signed.run, "--key", signed.private) == 2
    lines = capsys.readouterr().err.splitlines()
    heads = ["--key", "--key", "--head", "--key"]
    assert [line.split(":")[1].strip() for line in lines] == heads
    assert sorted(signed.run.rglob("*")) == before


def test_keygen(tmp_path, capsys):
    main(["keygen", str(tmp_path / "key")])
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert "key.pub" in capsys.readouterr().out
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert code_of("keygen", tmp_path / "key") == 2
    assert capsys.readouterr().err.startswith("error: KEY: ")
    (tmp_path / "key").unlink()
    assert code_of("keygen", tmp_path / "key") == 2  # its public key is there
    assert not (tmp_path / "key").exists()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == before[1:]


@pytest.mark.slow
def test_without_the_packages_the_extra_is_named(signed, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rfc8785", None)
    with refused("key", "rfc8785"):
        sign(signed.run, signed.private)
    with pytest.raises(InputError, match="sign"):
        verify(signed.run, key=signed.public)
    assert len(verify(signed.run)) == 1
