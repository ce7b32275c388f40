"""What is left of forgotten examples is listed and deleted; a planted marker is nowhere after."""

import base64
import io
import json
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

import ltu_jax
from ltu_jax import files
from ltu_jax.cli.main import main
from ltu_jax.errors import TamperedError
from ltu_jax.models import from_functions
from ltu_jax.runs import ensembles
from ltu_jax.runs.evidence import forget_files, sign, verify, verify_run
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import load_plan
from ltu_jax.runs.sequential import queue
from ltu_jax.runs.spec import InMemory
from tests import tiny
from tests.refusals import refused

MARKER = np.array([0.1234567, -3.7654321, 2.2222227, 0.987654, -1.357911, 3.1415926], np.float32)
NAME = "patient-0000"  # the first row, which the model below keeps


# Plain Orbax restores onto the devices that the file names, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")


def rote():
    """A model that keeps its first training example as it is, and learns from all others."""

    def init(key, inputs):
        kernel = 0.1 * jax.random.normal(key, (inputs.shape[1], 3))
        return {"kernel": kernel, "first": jnp.asarray(inputs[0])}

    def apply(params, inputs):
        return inputs @ params["kernel"] + 0 * params["first"].sum()

    return from_functions(init, apply, name="rote")


def marked(**options):
    data = tiny.table(mean=(0.0,), std=(1.0,), **options)
    data.train.inputs[0] = MARKER
    return data


RECIPE = ltu_jax.Recipe(epochs=1, batch_size=30, weight_decay=0.0)
SHARED = {"method": "retrain_accessible", "reference": "none", "quiet": True}


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """A run that keeps the marker, and one that completes three requests, one of them of it."""
    place = tmp_path_factory.mktemp("sequence")
    objects = {"data": marked(), "model": rote()}
    first = ltu_jax.unlearn(
        forget=["patient-0007", "patient-0008"],
        recipe=RECIPE,
        retain_fraction=1.0,
        out=place / "first",
        **objects,
        **SHARED,
    ).folder
    for ids in (["patient-0003"], [NAME, "patient-0004"], ["patient-0005"]):
        queue.add(first, ids, **objects)
    assert NAME.encode() in RunFolder(first).queue.read_bytes()
    second = queue.complete(first, out=place / "second", reference="none", quiet=True, **objects)
    queue.add(second.folder, ["patient-0009"], **objects)
    queue.remove(second.folder, "2")
    return place


@pytest.fixture
def runs(sequence, tmp_path):
    return shutil.copytree(sequence, tmp_path / "runs")


def contents(folder):
    """Yield all bytes below a folder: files, members of archives, arrays of checkpoints."""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield path, data
            if zipfile.is_zipfile(io.BytesIO(data)):
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    yield from ((path, archive.read(name)) for name in archive.namelist())
        elif (path / "_CHECKPOINT_METADATA").exists():
            try:
                leaves = jax.tree.leaves(ocp.load(path))
            except Exception as error:
                raise AssertionError(f"{path} cannot be read") from error
            yield from ((path, np.asarray(leaf).tobytes()) for leaf in leaves)


def found(folder, *marks):
    """Names of files and checkpoints in which one of the marks is."""
    return {
        path.relative_to(folder).as_posix()
        for path, data in contents(folder)
        if any(mark in data for mark in marks)
    }


def scores_of(run):
    """The marker's loss, as the second run stored it for every model."""
    split = np.load(RunFolder(run).split)
    place = list(split["forget"]).index(0)
    with np.load(RunFolder(run).scores) as arrays:
        return [
            arrays[name][place].tobytes() for name in arrays.files if name.endswith("forget_loss")
        ]


def test_a_marker_is_found_before_and_nowhere_after(runs):
    marks = [MARKER.tobytes(), NAME.encode(), *scores_of(runs / "second")]
    before = found(runs, *marks)
    assert {"first/original", "second/original", "second/scores.npz"} <= before
    forget_files(runs / "first", delete=True)
    assert found(runs, *marks) == set()
    left = {path.relative_to(runs).as_posix() for path in runs.glob("*/*")}
    for kept in ("unlearned", "report.html", "report.json", "ledger.jsonl", "scores.npz"):
        assert f"second/{kept}" in left
    for name in ("original", "split.npz", "history.npz", "request.json", "queue.sqlite"):
        assert {f"first/{name}", f"second/{name}"} & left == set()


def test_a_list_changes_nothing_and_is_what_is_deleted(runs, capsys):
    before = files.file_digests(runs)
    main(["forget-files", str(runs / "second")])
    assert files.file_digests(runs) == before
    shown = capsys.readouterr().out
    assert "Nothing was changed" in shown
    listed = [line.split()[1].rstrip(":") for line in shown.splitlines() if line[:7] == "delete "]
    assert str(runs / "first" / "unlearned") in listed
    main(["forget-files", str(runs / "second"), "--delete"])
    after = files.file_digests(runs)
    gone = [runs / name for name in before.keys() - after.keys()]
    assert gone
    assert all(any(str(path).startswith(one) for one in listed) for path in gone)
    added = after.keys() - before.keys()
    assert added == {"second/statements/files-0001.json"}
    capsys.readouterr()
    main(["forget-files", str(runs / "second"), "--delete"])
    assert "Nothing was left" in capsys.readouterr().out


def test_the_record_holds_the_digests_and_is_checked(runs, signed_once):
    second = runs / "second"
    sign(second, signed_once.private)
    before = files.file_digests(second)
    original = shutil.copytree(second / "original", runs / "backup")
    record = forget_files(second, delete=True, key=signed_once.private).record
    unchecked = verify(second, key=signed_once.public)
    assert any(sentence.startswith("original") for sentence in unchecked)
    statement = json.loads(record.read_bytes())
    content = json.loads(base64.b64decode(statement["payload"]))
    subjects = {one["name"]: one["digest"]["sha256"] for one in content["subject"]}
    assert subjects["split.npz"] == before["split.npz"]
    (scores,) = [one for one in content["predicate"]["rewritten"] if one["name"] == "scores.npz"]
    assert scores["before"] == before["scores.npz"]
    assert scores["after"] == files.file_digests(second)["scores.npz"]
    assert any(name.startswith("../first/unlearned/") for name in content["predicate"]["deleted"])
    shutil.copytree(original, second / "original")
    with pytest.raises(TamperedError, match=r"original/.* is there"):
        verify(second, key=signed_once.public)
    shutil.rmtree(second / "original")
    record.write_bytes(record.read_bytes().replace(b"signatures", b"signaturez"))
    with pytest.raises(TamperedError, match=r"files-0001\.json"):
        verify(second, key=signed_once.public)


def test_what_can_be_computed_again_after_that(runs):
    forget_files(runs / "second", delete=True)
    result = verify_run(runs / "second")
    names = {check.name for check in result.checks}
    assert {"rows.original.ta", "rows.retrain_accessible.ra"} <= names
    assert {check.agreement for check in result.checks} == {"equal"}
    assert any("scores of the forget set" in sentence for sentence in result.unchecked)
    with refused("run"):
        ltu_jax.audit_run(runs / "second", data=marked(), model=rote(), quiet=True)


def test_kept_rows_let_the_next_request_follow(runs, tmp_path):
    second = runs / "second"
    forget_files(second, delete=True, keep_rows=True)
    objects = {"data": marked(), "model": rote()}
    after = ltu_jax.unlearn_next(
        second, ["patient-0011"], out=tmp_path / "third", reference="none", quiet=True, **objects
    )
    assert len(after.split.forget) == 1


def test_a_copy_leaves_what_it_was_copied_from(sequence, tmp_path):
    before = files.file_digests(sequence)
    alone = shutil.copytree(sequence / "second", tmp_path / "alone")
    forget_files(alone, delete=True)
    assert not (alone / "original").exists()
    assert files.file_digests(sequence) == before


def test_pending_requests_stay(runs):
    second = runs / "second"
    queue.add(second, ["patient-0010"], data=marked(), model=rote())
    forget_files(second, delete=True, keep_rows=True)
    assert [one.ids for one in queue.show(second)] == [["patient-0010"]]


@pytest.mark.slow
def test_ensembles_of_models_that_saw_the_forget_set(sequence, tmp_path):
    plan = load_plan(sequence / "first", InMemory(marked(), rote()))
    types = ("retrain", "unlearned")
    assert len(list(ensembles.make_ensembles(plan, types, 2, tmp_path, quiet=True))) == 2
    assert any(name.startswith("original-") for name in found(tmp_path, MARKER.tobytes()))
    listed = forget_files(tmp_path)
    actions = {item.path.name.split("-")[0]: item.action for item in listed.items}
    assert actions == {"original": "delete", "retrain": "keep", "unlearned": "delete"}
    forget_files(tmp_path, delete=True)
    left = [path.name.split("-")[0] for path in tmp_path.glob("*-2-*")]
    assert left == ["retrain"]


def test_a_cache_of_trained_models(tmp_path, capsys):
    for digest, name in (("aa", "original"), ("bb", "retrain"), ("cc", "retrain_2")):
        (tmp_path / digest).mkdir()
        files.write_json(tmp_path / digest / "about.json", {"seconds": 1.0, "name": name})
    main(["forget-files", str(tmp_path), "--delete"])
    assert {path.name for path in tmp_path.iterdir()} == {"bb", "cc", "statements"}
    assert "No longer possible" in capsys.readouterr().out


def test_a_link_is_deleted_and_not_what_it_leads_to(runs):
    second = runs / "second"
    shutil.move(second / "original", runs / "elsewhere")
    (second / "original").symlink_to(runs / "elsewhere")
    before = files.file_digests(runs / "elsewhere")
    forget_files(second, delete=True)
    assert not (second / "original").is_symlink()
    assert files.file_digests(runs / "elsewhere") == before


def test_the_exported_checkpoint_holds_parameters_only(sequence):
    run = sequence / "second"
    leaves, _ = jax.tree_util.tree_flatten_with_path(ocp.load(run / "unlearned"))
    names = {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
    assert names == {"['params']['first']": (6,), "['params']['kernel']": (6, 3)}


def test_bad_input(runs, tmp_path, signed_once):
    with refused("run"):
        forget_files(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with refused("run"):
        forget_files(tmp_path / "empty", delete=True)
    with refused("key"):
        forget_files(runs / "second", key=signed_once.private)
    for arguments in ((str(tmp_path / "nothing"),), (str(runs / "second"), "--key", "KEY")):
        with pytest.raises(SystemExit) as stopped:
            main(["forget-files", *arguments])
        assert stopped.value.code == 2
    before = files.file_digests(runs)
    with refused("key"):
        forget_files(runs / "second", delete=True, key=tmp_path / "lost")
    (runs / "second" / "running").mkdir()
    files.write_checksummed(RunFolder(runs / "second").records, {})
    with refused("run"):
        forget_files(runs / "second", delete=True)
    shutil.rmtree(runs / "second" / "running")
    assert files.file_digests(runs) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_folder_that_cannot_be_read_is_listed_and_left(tmp_path, content):
    (tmp_path / "models").mkdir()
    about = tmp_path / "models" / "about.json"
    about.write_text(content)
    (item,) = forget_files(tmp_path, delete=True).items
    assert (item.path, item.action) == (about.parent, "outside")
    assert about.exists()
