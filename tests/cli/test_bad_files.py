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
from ltu_jax.runs.audit import find_ensembles
from ltu_jax.runs.folder import RunFolder
from ltu_jax.runs.loading import save_plan
from ltu_jax.training.checkpoint import export, restore
from ltu_jax.types import Variables
from tests import tiny
from tests.cli.test_main import head

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

# Files of ids that are refused, and the column that is named.
IDS = {
    "utf16.txt": ("patient-0001\n".encode("utf-16"),),
    "latin1.txt": (b"pati\xe9nt\n",),
    "empty.txt": (b"",),
    "only_bom.txt": (b"\xef\xbb\xbf",),
    "blank.txt": (b" \n\t\r\n",),
    "quoted.txt": (b'"patient-0001"\n',),
    "one_line.txt": (b"patient-0001,patient-0002",),
    "nul.txt": (b"patient\0-0001\n",),
    "escape.txt": (b"\x1b[31mpatient\n",),
    "long_line.txt": (b"x" * 5_000_000,),
    "unknown.txt": (b"patient-0001\nnobody\n",),
    "empty.json": (b"",),
    "none.json": (b"[]",),
    "cut.json": (b"[1, ",),
    "deep.json": (b"[" * 100_000,),
    "digits.json": (b"[" + b"9" * 5000 + b"]",),
    "object.json": (b'{"ids": ["patient-0001"]}',),
    "nested.json": (b'[["patient-0001"]]',),
    "objects.json": (b'[{"id": 1}]',),
    "float.json": (b"[1.0]",),
    "nan.json": (b"[NaN]",),
    "true.json": (b"[true]",),
    "null.json": (b"[null]",),
    "surrogate.json": (b'["\\ud800"]',),
    "several.csv": (b"id,age\npatient-0001,44\n",),
    "absent.csv": (b"id,age\npatient-0001,44\n", "name"),
    "double.csv": (b"id,id\npatient-0001,44\n", "id"),
    "hole.csv": (b"id,age\n,44\n", "id"),
    "bars.csv": (b"id|age\npatient-0001|44\n", "id"),
    "headless.csv": (b"patient-0001\npatient-0002\n",),
    "quote.csv": (b'id\n"patient"-0001\n',),
    "utf16.csv": ("id\npatient-0001\n".encode("utf-16"),),
    "long_cell.csv": (b"id\n" + b"x" * 200_000,),
    "column.txt": (b"patient-0001\n", "id"),
    "pickle.npy": (PICKLE,),
    "terabytes.npy": (TERABYTES,),
    "cut.npy": (npy([1, 2])[:-4],),
    "text.npy": (b"patient-0001\n",),
    "matrix.npy": (npy([[1, 2]]),),
    "scalar.npy": (npy(3),),
    "mask.npy": (npy([True, False]),),
    "float.npy": (npy([1.5]),),
    "records.npy": (npy([(1, 2)], dtype="i4,i4"),),
}


@pytest.mark.parametrize("name", IDS)
def test_a_file_of_ids_is_refused(workplace, refused, name):
    content, *column = IDS[name]
    Path(name).write_bytes(content)
    columns = [x for one in column for x in ("--forget-id-column", one)]
    line = refused("unlearn", *TABLE, "--forget-ids", name, *columns)
    assert head(line) == "--forget-ids"
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
    assert head(line) == "--forget-ids"
    assert repr(name or ".") in line


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
    assert requests.resolve(requests.by_ids(name), tiny.table()).tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("line", ["{}", "7"], ids=["different", "equal"])
def test_a_million_ids_are_refused_in_one_short_line(workplace, refused, line):
    Path("million.txt").write_text("".join(f"{line.format(i)}\n" for i in range(10**6)))
    start = time.perf_counter()
    error = refused("unlearn", "--data", "digits", "--forget-ids", "million.txt")
    assert time.perf_counter() - start < 20
    assert len(error) < 400
    assert head(error) == "--forget-ids"


# Files of options for `ltu` that are refused.
OPTIONS = {
    "no JSON": "{",
    "deep": "[" * 100_000,
    "UTF-16": '{"steps": 3}'.encode("utf-16"),
    "a list": "[1]",
    "NaN": '{"learning_rate": NaN}',
    "infinite": '{"learning_rate": Infinity}',
    "overflow": '{"learning_rate": 1e400}',
    "a huge integer": '{"learning_rate": 1%s}' % ("0" * 400),
    "named twice": '{"steps": 3, "steps": 4}',
    "unknown": '{"step": 3}',
    "text": '{"learning_rate": "fast"}',
    "null": '{"steps": null}',
    "true": '{"steps": true}',
    "half a step": '{"steps": 1.5}',
    "too many": '{"steps": 99999999999}',
    "none": '{"steps": 0}',
    "negative": '{"learning_rate": -1}',
    "no choice": '{"harmonize": "x"}',
    "nothing to see": '{"objective": {"specs": []}}',
    "no member": '{"objective": {"specs": [1]}}',
    "of another method": '{"method": "scrub", "trials": [], "options": {"alpha": 1}}',
    "no options": '{"method": "ltu", "trials": []}',
    "options are a list": '{"method": "ltu", "trials": [], "options": [1]}',
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_file_of_options_is_refused(workplace, refused, name):
    content = OPTIONS[name]
    Path("options.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert head(refused("unlearn", *TABLE, "--config", "options.json")) == "--config"


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
    "a text": b"no zip",
    "cut": zipped()[:60],
    "encrypted": patched(2, 1),
    "packed oddly": patched(4, 99),
    "names in Latin-1": zipped(**{"top/wnids.txt": b"\xe9\n"}),
    "climbing": zipped(**{"top/../../x": ""}),
    "climbing by \\": zipped(**{"..\\x": ""}),
    "absolute": zipped(**{"/etc/x": ""}),
    "on a drive": zipped(**{"C:/x": ""}),
    "of no name": zipped(**{".": ""}),
    "a bomb": zipped(**{"top/words.txt": bytes(17 * 2**20)}),
    "without words": zipped(),
    "of two": zipped(**{"other/wnids.txt": ""}),
    "without images": zipped(**{"top/words.txt": "n01\tcat\n", "top/val/val_annotations.txt": ""}),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_of_tiny_imagenet_is_refused(workplace, refused, name):
    Path("given.zip").write_bytes(ZIPS[name])
    line = refused("unlearn", "--data", "tiny_imagenet", "--data-dir", "given.zip")
    assert head(line) == "--data-dir"


@pytest.fixture
def run(workplace):
    """What `ltu audit` reads of a finished run, as far as it comes without training."""
    folder = workplace / "run"
    folder.mkdir()
    plan = tiny.plan("tests.tiny:table", tiny.FORGOTTEN)
    save_plan(plan, RunFolder(folder))
    (folder / "report.json").write_text("{}")
    (folder / "scores.npz").write_bytes(npz(x=np.zeros(3)))
    (folder / "metrics.jsonl").write_text("{}\n")
    return plan


RUNS = [
    ("run.json", b""),
    ("run.json", b"\xff"),
    ("run.json", b"[]"),
    ("run.json", b"{}"),
    ("split.npz", None),
    ("split.npz", b""),
    ("split.npz", npz(forget=np.arange(3))),
    ("split.npz", npz(forget=np.array([Pickled()], dtype=object))),
    ("report.json", None),
    ("report.json", b"{"),
    ("report.json", b"\xff"),
    ("report.json", b"[]"),
    ("report.json", b"{}"),
    ("scores.npz", None),
    ("scores.npz", b""),
    ("scores.npz", b"PK\x03\x04"),
    ("scores.npz", npz(x=np.array([Pickled()], dtype=object))),
    ("metrics.jsonl", None),
    ("metrics.jsonl", b"{\n"),
]


@pytest.mark.parametrize(("name", "content"), RUNS)
def test_a_run_with_a_file_of_other_contents_is_refused(run, refused, name, content):
    if content is None:
        Path("run", name).unlink()
    else:
        Path("run", name).write_bytes(content)
    assert head(refused("audit", "run")) == "RUN"
    assert not Path(MARK).exists()


def test_folders_that_look_like_pools_are_no_pools(run, workplace):
    for name in ("retrain-x-y", "unlearned--", "shadow-99999999-abc"):
        (workplace / name).mkdir()
    with pytest.raises(InputError) as caught:
        find_ensembles(run, workplace)
    assert caught.value.argument == "ensembles"
    assert "`make_ensembles`" in caught.value.remedy


@pytest.mark.parametrize("content", ["{", "[]", '{"data": "digits"}'])
def test_a_folder_of_another_comparison_is_refused(workplace, refused, content):
    Path("all").mkdir()
    Path("all/config.json").write_text(content)
    line = refused("compare", *TABLE, "--out", "all")
    assert head(line) == "--out"


@pytest.mark.parametrize(
    ("name", "content"),
    [("_CHECKPOINT_METADATA", b"[1]"), ("state/_METADATA", b"[1]"), ("state/_METADATA", b"\xff")],
)
def test_a_network_with_damaged_metadata_is_no_checkpoint(workplace, name, content):
    network = Variables({"Dense_0": {"kernel": jnp.ones([6, 3]), "bias": jnp.zeros(3)}}, {})
    export(workplace / "network", network)
    (workplace / "network" / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        restore(workplace / "network", network)
    assert caught.value.argument == "checkpoint"
