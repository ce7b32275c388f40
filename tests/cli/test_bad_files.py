"""Files that a user can get wrong: ids, options, zips, runs, networks. None is trusted."""

import io
import time
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import ltu_jax.data.request as requests
from ltu_jax.errors import InputError
from ltu_jax.runs import settings as saved
from ltu_jax.runs.audit import find_ensembles
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.types import Variables
from tests import tiny

TABLE = ["--data", "tests.tiny:table"]
MARK = "a pickle was opened"


class Pickled:
    """What leaves a file behind wherever it is unpickled."""

    def __reduce__(self):
        return (open, (MARK, "w"))


def npy(*arguments, **options):
    file = io.BytesIO()
    np.save(file, np.array(*arguments, **options))
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


PICKLE = npy([Pickled()], dtype=object)
HEADER = b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999,), }"
TERABYTES = b"\x93NUMPY\x01\x00\x76\x00" + HEADER.ljust(117) + b"\n"

# A file of ids (and the column asked for), and what the line must say beside the flag.
IDS = {
    "utf16.txt": ("patient-0001\n".encode("utf-16"), "UTF-8 text; save it so"),
    "latin1.txt": (b"pati\xe9nt\n", "UTF-8 text; save it so"),
    "empty.txt": (b"", "select some"),
    "only_bom.txt": (b"\xef\xbb\xbf", "select some"),
    "blank.txt": (b" \n\t\r\n", "select some"),
    "quoted.txt": (b'"patient-0001"\n', "ids look like 'patient-0000'"),
    "one_line.txt": (b"patient-0001,patient-0002", "ids look like 'patient-0000'"),
    "nul.txt": (b"patient\0-0001\n", "'patient\\x00-0001'"),
    "escape.txt": (b"\x1b[31mpatient\n", "'\\x1b[31mpatient'"),
    "long_line.txt": (b"x" * 5_000_000, "xxx...; ids look like 'patient-0000'"),
    "unknown.txt": (b"patient-0001\nnobody\n", "1 of 2 ids are not in the training set: 'nobody'"),
    "twice.txt": (b"patient-0001\npatient-0001\n", "'patient-0001'; give each id once"),
    "empty.json": (b"", "UTF-8 JSON; save it so"),
    "none.json": (b"[]", "select some"),
    "cut.json": (b"[1, ", "UTF-8 JSON; save it so"),
    "deep.json": (b"[" * 100_000, "UTF-8 JSON; save it so"),
    "digits.json": (b"[" + b"9" * 5000 + b"]", "UTF-8 JSON; save it so"),
    "object.json": (b'{"ids": ["patient-0001"]}', "give a flat list"),
    "nested.json": (b'[["patient-0001"]]', "['patient-0001'] is no id; ids are a flat list"),
    "objects.json": (b'[{"id": 1}]', "{'id': 1} is no id; ids are a flat list"),
    "float.json": (b"[1.0]", "1.0 is no id; ids are a flat list"),
    "nan.json": (b"[NaN]", "nan is no id; ids are a flat list"),
    "true.json": (b"[true]", "True is no id; ids are a flat list"),
    "null.json": (b"[null]", "None is no id; ids are a flat list"),
    "surrogate.json": (b'["\\ud800"]', "ids look like 'patient-0000'"),
    "several.csv": (b"id,age\npatient-0001,44\n", "name the one with the ids"),
    "absent.csv": (b"id,age\npatient-0001,44\n", "'name' but 'id', 'age'; name another", "name"),
    "double.csv": (b"id,id\npatient-0001,44\n", "'id' but 'id', 'id'; name another", "id"),
    "hole.csv": (b"id,age\n,44\n", "row 2 has no id; fill it in", "id"),
    "semicolons.csv": (b"id;age\npatient-0001;44\n", "'id;age'; name another", "id"),
    "headless.csv": (b"patient-0001\npatient-0002\n", "add a header line"),
    "quote.csv": (b'id\n"patient"-0001\n', "UTF-8 CSV; save it so"),
    "utf16.csv": ("id\npatient-0001\n".encode("utf-16"), "UTF-8 CSV; save it so"),
    "long_cell.csv": (b"id\n" + b"x" * 200_000, "UTF-8 CSV; save it so"),
    "column.txt": (b"patient-0001\n", "give a .csv file, or no column", "id"),
    "pickle.npy": (PICKLE, "NumPy array without pickles; save it so"),
    "terabytes.npy": (TERABYTES, "NumPy array without pickles; save it so"),
    "cut.npy": (npy([1, 2])[:-4], "NumPy array without pickles; save it so"),
    "text.npy": (b"patient-0001\n", "NumPy array without pickles; save it so"),
    "matrix.npy": (npy([[1, 2]]), "[1, 2] is no id; ids are a flat list"),
    "scalar.npy": (npy(3), "give a flat list"),
    "mask.npy": (npy([True, False]), "True is no id; ids are a flat list"),
    "float.npy": (npy([1.5]), "1.5 is no id; ids are a flat list"),
    "records.npy": (npy([(1, 2)], dtype="i4,i4"), "(1, 2) is no id; ids are a flat list"),
}


@pytest.mark.parametrize("name", IDS)
def test_a_file_of_ids_is_refused(workplace, refused, name):
    content, problem, *column = IDS[name]
    Path(name).write_bytes(content)
    columns = [x for one in column for x in ("--forget-id-column", one)]
    line = refused("unlearn", *TABLE, "--forget-ids", name, *columns)
    assert line.startswith("error: --forget-ids ")
    assert problem in line
    assert len(line) < 400
    assert not Path(MARK).exists()


def test_what_leaves_a_mark_does_so_where_pickles_are_allowed(workplace):
    Path("pickle.npy").write_bytes(PICKLE)
    np.load("pickle.npy", allow_pickle=True)[0].close()
    assert Path(MARK).exists()


@pytest.mark.parametrize(
    "name", ["", "folder.txt", "gone.txt", "gone/x.txt", "a\0b", "x" * 300, "a\nb"]
)
def test_a_path_that_is_no_file_of_ids_is_refused(workplace, refused, name):
    Path("folder.txt").mkdir()
    line = refused("unlearn", *TABLE, "--forget-ids", name)
    assert repr(name or ".") in line
    assert "give a readable file" in line or "save it so" in line


# Oddities that leave no doubt which ids are meant.
ACCEPTED = {
    "bom.txt": "\ufeffpatient-0001\npatient-0002\n",
    "crlf.txt": "patient-0001\r\npatient-0002\r\n",
    "old_mac.txt": "patient-0001\rpatient-0002\r",
    "spaces.txt": "  patient-0001\t\n\n \n patient-0002",
    "no suffix": "patient-0001\npatient-0002",
    "wide_spaces.txt": "\u00a0patient-0001\u3000\npatient-0002\n",
    "bom.csv": '\ufeffid\r\n"patient-0001"\r\n patient-0002 \r\n\r\n',
    "UPPER.CSV": "id\npatient-0001\npatient-0002\n",
    "bom.json": '\ufeff["patient-0001",\r\n "patient-0002"]',
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_file_of_ids_may_be_odd(workplace, name):
    Path(name).write_bytes(ACCEPTED[name].encode())
    assert requests.by_ids(name).value == ("patient-0001", "patient-0002")


@pytest.mark.parametrize("line", ["{}", "7"], ids=["different", "equal"])
def test_a_million_ids_are_refused_in_one_short_line(workplace, refused, line):
    Path("million.txt").write_text("".join(f"{line.format(i)}\n" for i in range(10**6)))
    start = time.perf_counter()
    said = refused("unlearn", "--data", "digits", "--forget-ids", "million.txt")
    assert time.perf_counter() - start < 20
    assert len(said) < 400
    assert "(1000000 in all)" in said


# A file of options for `ltu`, and what the line must say.
OPTIONS = {
    "no JSON": ("{", "give a JSON file of options"),
    "deep": ("[" * 100_000, "give a JSON file of options"),
    "UTF-16": ('{"steps": 3}'.encode("utf-16"), "give a JSON file of options"),
    "a list": ("[1]", "give an object of them"),
    "NaN": ('{"learning_rate": NaN}', "give a JSON file of options"),
    "infinite": ('{"learning_rate": Infinity}', "give a JSON file of options"),
    "overflow": ('{"learning_rate": 1e400}', "give a JSON file of options"),
    "a huge integer": ('{"learning_rate": 1%s}' % ("0" * 400), "give a value such as 0.02"),
    "named twice": ('{"steps": 3, "steps": 4}', "names 'steps' twice; give a JSON file"),
    "unknown": ('{"step": 3}', "--config step: ltu has no such option; it has steps"),
    "text": ('{"learning_rate": "fast"}', "learning_rate: is 'fast'; give a value such as 0.02"),
    "null": ('{"steps": null}', "--config steps: is None; give a value such as 300"),
    "true": ('{"steps": true}', "--config steps: is True; give a value such as 300"),
    "half a step": ('{"steps": 1.5}', "--config steps: is 1.5; give a value such as 300"),
    "too many": ('{"steps": 99999999999}', "steps: is 99999999999; give a value such as 300"),
    "none": ('{"steps": 0}', "steps is 0; give a number above 0"),
    "negative": ('{"learning_rate": -1}', "learning_rate: is -1; give a number above 0"),
    "no choice": ('{"harmonize": "x"}', "harmonize is 'x'; choose one of two-way"),
    "nothing to see": ('{"membership": []}', "give MI models with features among"),
    "no member": ('{"membership": [1]}', "--config membership: is [1]; give a value such as"),
    "of another method": (
        '{"method": "scrub", "trials": [], "options": {"alpha": 1}}',
        "holds options of scrub, not of ltu; give that --method",
    ),
    "no options": ('{"method": "ltu", "trials": []}', "--config method: ltu has no such option"),
    "options are a list": ('{"method": "ltu", "trials": [], "options": [1]}', "give an object"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_file_of_options_is_refused(workplace, refused, name):
    content, problem = OPTIONS[name]
    Path("options.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused("unlearn", *TABLE, "--config", "options.json")
    assert problem in line


def zipped(**options):
    """A zip of one empty `wnids.txt` and the given members, some bytes of it changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"top/wnids.txt": "n01\n", **options}.items():
            archive.writestr(name, content)
    return bytearray(file.getvalue())


def patched(offset, value):
    """A zip whose headers, local and central, have another value in one place."""
    content = zipped()
    content[4 + offset] = value
    content[content.find(b"PK\x01\x02") + 6 + offset] = value
    return content


ZIPS = {
    "a text": (b"no zip", "no readable zip"),
    "cut": (zipped()[:60], "no readable zip"),
    "encrypted": (patched(2, 1), "no readable zip"),
    "packed oddly": (patched(4, 99), "no readable zip"),
    "names in Latin-1": (zipped(**{"top/wnids.txt": b"\xe9\n"}), "no readable zip"),
    "climbing": (zipped(**{"top/../../x": ""}), "leaves the zip's folder; use a zip from a source"),
    "climbing by \\": (zipped(**{"..\\x": ""}), "leaves the zip's folder; use a zip from a source"),
    "absolute": (zipped(**{"/etc/x": ""}), "leaves the zip's folder; use a zip from a source"),
    "on a drive": (zipped(**{"C:/x": ""}), "leaves the zip's folder; use a zip from a source"),
    "of no name": (zipped(**{".": ""}), "leaves the zip's folder; use a zip from a source"),
    "a bomb": (zipped(**{"top/words.txt": bytes(17 * 2**20)}), "unpacks to 17,825,792 bytes"),
    "without words": (zipped(), "has no words.txt; use a zip of the layout"),
    "of two": (zipped(**{"other/wnids.txt": ""}), "2 files wnids.txt; use a zip of the layout"),
    "without images": (
        zipped(**{"top/words.txt": "n01\tcat\n", "top/val/val_annotations.txt": ""}),
        "no images in train/n01/images; use a zip of the layout",
    ),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_of_tiny_imagenet_is_refused(workplace, refused, name):
    content, problem = ZIPS[name]
    Path("given.zip").write_bytes(content)
    line = refused("unlearn", "--data", "tiny_imagenet", "--data-dir", "given.zip")
    assert line.startswith("error: --data-dir given.zip: ")
    assert problem in line
    assert "; use a zip" in line


@pytest.fixture
def run(workplace):
    """What `ltu audit` reads of a finished run, as far as it comes without training."""
    folder = workplace / "run"
    folder.mkdir()
    plan = tiny.plan(
        "tests.tiny:table",
        requests.by_ids(tiny.FORGOTTEN),
        **dict.fromkeys(("checkpoint", "recipe", "epochs", "data_dir", "train_size", "model")),
        method="nothing",
        config=None,
        retain_fraction=0.3,
        reference="none",
        seed=0,
    )
    given = {"data": "tests.tiny:table", "model": None, "method": "nothing"}
    saved.save_settings(plan, folder, **given, data_dir=None, train_size=None)
    requests.save_split(folder / "split.npz", plan.split)
    (folder / "report.json").write_text("{}")
    (folder / "scores.npz").write_bytes(npz(x=np.zeros(3)))
    (folder / "metrics.jsonl").write_text("{}\n")
    return plan


NO_SPLIT = "is not a saved split"
NO_RUN = "is no finished run"
RUNS = [
    ("run.json", b"", "holds no finished run"),
    ("run.json", b"\xff", "holds no finished run"),
    ("run.json", b"[]", "holds no finished run"),
    ("run.json", b"{}", "holds no finished run"),
    ("split.npz", None, NO_SPLIT),
    ("split.npz", b"", NO_SPLIT),
    ("split.npz", npz(forget=np.arange(3)), NO_SPLIT),
    ("split.npz", npz(forget=np.array([Pickled()], dtype=object)), NO_SPLIT),
    ("report.json", None, NO_RUN),
    ("report.json", b"{", NO_RUN),
    ("report.json", b"\xff", NO_RUN),
    ("report.json", b"[]", "not what the run wrote"),
    ("report.json", b"{}", "not what the run wrote"),
    ("scores.npz", None, NO_RUN),
    ("scores.npz", b"", NO_RUN),
    ("scores.npz", b"PK\x03\x04", NO_RUN),
    ("scores.npz", npz(x=np.array([Pickled()], dtype=object)), NO_RUN),
    ("metrics.jsonl", None, NO_RUN),
    ("metrics.jsonl", b"{\n", NO_RUN),
]


@pytest.mark.parametrize(("name", "content", "problem"), RUNS)
def test_a_run_with_a_file_of_other_contents_is_refused(run, refused, name, content, problem):
    if content is None:
        Path("run", name).unlink()
    else:
        Path("run", name).write_bytes(content)
    line = refused("audit", "run")
    assert "run" in line
    assert problem in line
    assert "; give " in line
    assert not Path(MARK).exists()


def test_folders_that_look_like_pools_are_no_pools(run, workplace):
    for name in ("retrain-x-y", "unlearned--", "shadow-99999999-abc"):
        (workplace / name).mkdir()
    with pytest.raises(InputError, match=r"--pool .*holds no pools of this run.*ltu pool --run"):
        find_ensembles(run, workplace)


@pytest.mark.parametrize("content", ["{", "[]", '{"data": "digits"}'])
def test_a_folder_of_another_comparison_is_refused(workplace, refused, content):
    Path("all").mkdir()
    Path("all/config.json").write_text(content)
    line = refused("compare", *TABLE, "--out", "all")
    assert line.startswith("error: --out")
    assert "delete that file" in line or "name another folder" in line


@pytest.mark.parametrize(
    ("name", "content"),
    [("_CHECKPOINT_METADATA", b"[1]"), ("state/_METADATA", b"[1]"), ("state/_METADATA", b"\xff")],
)
def test_a_network_with_damaged_metadata_is_no_checkpoint(workplace, name, content):
    network = Variables({"Dense_0": {"kernel": jnp.ones([6, 3]), "bias": jnp.zeros(3)}}, {})
    export(workplace / "network", network)
    (workplace / "network" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"--checkpoint .*; give"):
        restore(workplace / "network", network)
