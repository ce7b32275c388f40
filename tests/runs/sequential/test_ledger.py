"""A ledger that was edited in any way is told, and a crash never leaves half of one."""

import json
import os

import numpy as np
import pytest

from ltu_jax import files as durable
from ltu_jax.cli.main import main
from ltu_jax.errors import InputError, TamperedError
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.sequential import ledger
from ltu_jax.training.checkpoint import export
from ltu_jax.types import Variables

CONTENT = {
    "time": "2026-01-01T00:00:00Z",
    "completed": [],
    "method": "ltu",
    "options": {"learning_rate": 1e-05},
    "seed": 0,
    "metrics": {"ua": 12.5, "avg_gap": 1.5, "floor": None},
    "drift": {"auc": 50.0, "utility_since_training": -0.5, "sentence": "Anew: no."},
    "versions": {},
}
IDS = (["7", "11"], ["3"])


def network(value):
    return Variables({"kernel": np.full((2, 3), value, np.float32)}, {})


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folders with the networks of a chain of two deletions, and their digests."""
    folder = tmp_path_factory.mktemp("networks")
    for i in range(3):
        export(folder / str(i), network(i))
    return [(folder / str(i), ledger.model_digest(folder / str(i))) for i in range(3)]


@pytest.fixture
def run(networks, tmp_path):
    """The folder of a run that was the second of its chain."""
    first, second = tmp_path / "first", tmp_path / "second"
    for i, folder in enumerate((first, second)):
        folder.mkdir()
        between = {"parent": networks[i][1], "child": networks[i + 1][1]}
        before = first if i else None
        entry = ledger.append(folder, CONTENT | between, IDS[i], before=before)
        named = {"entry": entry["entry"], "sha256": entry["sha256"]}
        (folder / "report.json").write_text(json.dumps({"ledger": named}))
        os.symlink(networks[i][0], folder / "original")
        os.symlink(networks[i + 1][0], folder / "unlearned")
    return second


def told(run, content, monkeypatch):
    """Whether a ledger with this content is refused, and names an entry."""
    monkeypatch.setattr(ledger.Path, "read_bytes", lambda path: content)
    try:
        ledger.read(run)
    except TamperedError as error:
        return "ledger.jsonl was edited: " in str(error) and "\n" not in str(error)
    return False


def test_a_ledger_that_was_left_alone_is_whole(run):
    assert ledger.verify(run) == []
    first, second = ledger.read(run)
    assert (first["entry"], second["entry"]) == (1, 2)
    assert (first["previous"], second["previous"]) == (ledger.NO_ENTRY, first["sha256"])
    assert first["child"] == second["parent"]
    assert (first["forgotten"]["count"], second["forgotten"]["count"]) == (2, 1)


def test_every_changed_byte_is_told(run, monkeypatch):
    content = RunFolder(run).ledger.read_bytes()
    for place, byte in enumerate(content):
        values = {byte ^ 1, byte ^ 0x20, byte ^ 0x80, *b'0 \n"'} - {byte}
        for value in values:
            edited = content[:place] + bytes([value]) + content[place + 1 :]
            assert told(run, edited, monkeypatch), (place, value)


def test_every_deleted_or_inserted_byte_is_told(run, monkeypatch):
    content = RunFolder(run).ledger.read_bytes()
    for place in range(len(content)):
        assert told(run, content[:place] + content[place + 1 :], monkeypatch), place
    for place in range(len(content) + 1):
        for byte in (b" ", b"\n", b"0", b"\r", b"\0"):
            assert told(run, content[:place] + byte + content[place:], monkeypatch), (place, byte)


def test_lines_lost_doubled_or_out_of_place_are_told(run, monkeypatch):
    first, second = RunFolder(run).ledger.read_bytes().splitlines(keepends=True)
    for lines in ([second], [second, first], [first, first], [first, second, second], []):
        assert told(run, b"".join(lines), monkeypatch)
    for cut in range(1, len(second)):
        assert told(run, first + second[:-cut], monkeypatch)


def test_an_edit_that_mends_its_own_hash_breaks_the_chain(run, monkeypatch):
    first, second = ledger.read(run)
    del first["sha256"]
    mended = ledger.seal(first | {"method": "scrub"})
    content = ledger.line_of(mended) + ledger.line_of(second)
    assert told(run, content, monkeypatch)
    monkeypatch.setattr(ledger.Path, "read_bytes", lambda path: content)
    with pytest.raises(TamperedError, match="entry 2: does not follow"):
        ledger.read(run)


def test_entries_that_are_cut_off_are_missed(run):
    path = RunFolder(run).ledger
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert len(ledger.read(run)) == 1  # whole in itself
    with pytest.raises(TamperedError, match=r"entry 1: .*unlearned is not the child"):
        ledger.verify(run)


def test_cut_off_together_with_the_networks_the_report_tells(run, networks):
    path = RunFolder(run).ledger
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    for name, i in (("original", 0), ("unlearned", 1)):
        (run / name).unlink()
        os.symlink(networks[i][0], run / name)
    with pytest.raises(TamperedError, match=r"entry 1: report\.json names another entry"):
        ledger.verify(run)
    head = json.loads((run / "report.json").read_text())["ledger"]["sha256"]
    (run / "report.json").unlink()
    # An earlier state as a whole: only who noted the newest entry can tell.
    with pytest.raises(TamperedError, match="salts"):
        ledger.verify(run)
    RunFolder(run).salts.unlink()
    assert ledger.verify(run) == [
        "report.json names no entry, so only the models show the end of the ledger.",
        "ledger.salts.json has been deleted; no list of ids can be compared.",
    ]
    with pytest.raises(TamperedError, match=f"head: is {head}, which no entry"):
        ledger.verify(run, head=head)


def test_a_noted_entry_need_not_be_the_newest(run):
    for entry in ledger.read(run):
        assert ledger.verify(run, head=entry["sha256"]) == []


@pytest.mark.parametrize(("name", "key"), [("unlearned", "child"), ("original", "parent")])
def test_a_replaced_network_is_told(run, networks, name, key):
    (run / name).unlink()
    os.symlink(networks[1 if name == "unlearned" else 0][0], run / name)
    with pytest.raises(TamperedError, match=rf"{name} is not the {key} that it names"):
        ledger.verify(run)


def test_networks_that_are_gone(run):
    (run / "original").unlink()
    assert ledger.verify(run) == ["original has been deleted, so it was not compared."]
    (run / "unlearned").unlink()
    with pytest.raises(TamperedError, match=r"entry 2: unlearned cannot be read .*restore it"):
        ledger.verify(run)


def test_the_digest_is_of_names_shapes_and_values(tmp_path):
    kernel = np.ones((2, 3), np.float32)
    variants = [
        Variables({"kernel": kernel}, {}),
        Variables({"bias": kernel}, {}),
        Variables({"kernel": kernel.reshape(3, 2)}, {}),
        Variables({"kernel": kernel + np.float32(1e-6)}, {}),
        Variables({"kernel": kernel}, {"mean": kernel[0]}),
    ]
    found = []
    for i, variables in enumerate(variables for variables in variants):
        export(tmp_path / str(i), variables)
        found.append(ledger.model_digest(tmp_path / str(i)))
    assert len(set(found)) == len(variants)
    export(tmp_path / "again", variants[0])
    assert ledger.model_digest(tmp_path / "again") == found[0]


def test_ids_are_nowhere_and_their_hash_needs_the_salt(run):
    names = ["someone-17", "someone-4"]
    entry = ledger.append(run, CONTENT | {"parent": "a", "child": "b"}, names)
    assert "someone" not in "".join(path.read_text() for path in run.glob("ledger*"))
    salts = json.loads(RunFolder(run).salts.read_text())
    assert ledger.hash_ids(names[::-1], salts["1"]) == entry["forgotten"]["hmac_sha256"]
    assert ledger.hash_ids(names[:1], salts["1"]) != entry["forgotten"]["hmac_sha256"]
    other = ledger.append(run, CONTENT | {"parent": "a", "child": "b"}, names)
    assert other["forgotten"] != entry["forgotten"]  # a salt of its own each time
    assert RunFolder(run).salts.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(text[10], "0" if text[10] != "0" else "1", 1),
        lambda text: json.dumps({"1": json.loads(text)["2"], "2": json.loads(text)["1"]}, indent=1),
        lambda text: durable.json_text({"1": json.loads(text)["1"]}),
        lambda text: durable.json_text({"2": json.loads(text)["2"]}),
        lambda text: json.dumps({**json.loads(text), "3": "00"}, indent=1),
        lambda text: text.upper(),
        lambda text: text.replace("\n", ""),
        lambda text: "{}\n",
        lambda text: "[1]",
        lambda text: "",
    ],
)
def test_an_edited_file_of_salts_is_found(run, edit):
    path = RunFolder(run).salts
    path.write_text(edit(path.read_text()))
    with pytest.raises(TamperedError, match=r"ledger\.salts\.json"):
        ledger.verify(run)


def test_a_run_after_deleted_salts_is_verified(run):
    RunFolder(run).salts.unlink()
    child = ledger.read(run)[-1]["child"]
    ledger.append(run, CONTENT | {"parent": child, "child": "c"}, ["1"], before=run)
    assert ledger._wrong_salts(RunFolder(run), ledger.read(run)) is None


def test_salts_go_with_the_chain_and_may_be_deleted(run):
    salts = json.loads(RunFolder(run).salts.read_text())
    for entry, ids in zip(ledger.read(run), IDS):
        assert ledger.hash_ids(ids, salts[str(entry["entry"])]) == entry["forgotten"]["hmac_sha256"]
    RunFolder(run).salts.unlink()
    assert ledger.verify(run) == [
        "ledger.salts.json has been deleted; no list of ids can be compared."
    ]
    target = run.parent / "third"
    target.mkdir()
    ledger.copy(run, target)
    assert [path.name for path in target.iterdir()] == ["ledger.jsonl"]


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_crash_leaves_the_old_ledger_or_the_new_one(run, monkeypatch, moment):
    before = RunFolder(run).ledger.read_bytes()
    child = ledger.read(run)[-1]["child"]
    calls = []

    def dying(*arguments, **options):
        calls.append(arguments)
        raise OSError("no space")

    patched = {
        "write": (durable.os, "fdopen"),
        "fsync": (durable.os, "fsync"),
        "replace": (durable.os, "replace"),
    }
    with monkeypatch.context() as context:
        context.setattr(*patched[moment], dying)
        with pytest.raises(OSError, match="no space"):
            ledger.append(run, CONTENT | {"parent": child, "child": "c"}, ["1"], before=run)
    assert calls
    assert RunFolder(run).ledger.read_bytes() == before
    ledger.append(run, CONTENT | {"parent": child, "child": "c"}, ["1"], before=run)
    assert len(ledger.read(run)) == 3


def test_a_ledger_is_gone_on_with_from_its_last_network_alone(run):
    with pytest.raises(TamperedError, match="entry 3: its parent is not the model of the entry"):
        ledger.append(run, CONTENT | {"parent": "x", "child": "c"}, ["1"], before=run)


def code_of(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["ledger", *map(str, arguments)])
    return stopped.value.code


def test_the_command_line_says_whole_or_what_is_wrong(run, capsys):
    main(["ledger", "verify", str(run)])
    head = ledger.read(run)[-1]["sha256"]
    assert capsys.readouterr().out.splitlines() == [
        "Not checked: ledger.jsonl is not signed: there is no statement.",
        f"{run / 'ledger.jsonl'}: 2 entries, nothing was edited.",
        f"Newest entry's SHA-256: {head}",
    ]
    assert code_of("verify", run, "--head", "0" * 64) == 1
    assert capsys.readouterr().err.startswith("error: --head: ")
    path = RunFolder(run).ledger
    path.write_bytes(path.read_bytes().replace(b'"count":1', b'"count":2'))
    for action in ("verify", "show"):
        assert code_of(action, run) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("error: RUN: ")
        assert "ledger.jsonl was edited: entry 2" in shown.err
        assert shown.err.count("\n") == 1


def test_the_command_line_shows_every_entry(run, capsys):
    main(["ledger", "show", str(run)])
    shown = capsys.readouterr().out
    assert shown.count("2026-01-01 00:00 ") == 2
    for text in ("Anew: no.", ledger.read(run)[-1]["sha256"], "points of test"):
        assert text in shown
    assert code_of("show", run, "--head", "0") == 2
    assert "--head: is not for" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["show", "verify"])
def test_a_folder_without_a_ledger_is_refused(tmp_path, capsys, action):
    assert code_of(action, tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: RUN: {tmp_path} has no readable ledger.jsonl")
    assert error.count("\n") == 1
    with pytest.raises(InputError):
        ledger.read(tmp_path)
