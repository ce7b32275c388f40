"""Files of outputs: all forms hold the same, bad ones are refused, large ones stay on disk."""

import csv
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ltu_jax.audit import from_outputs
from ltu_jax.audit.outputs import open_arrays
from tests.audit.outputs.made import arrays
from tests.refusals import refused

GIVEN = arrays()


def as_table():
    columns = {"label": GIVEN["labels"], "part": GIVEN["part"]}
    for name in ("original", "retrain", "retrain_2", "unlearned"):
        columns |= {f"{name}.{i}": GIVEN[name][:, i] for i in range(3)}
    return columns


def write_csv(path, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(np.asarray(one).tolist() for one in columns.values())))
    return path


def write_npz(path):
    np.savez(path / "a.npz", **GIVEN)
    return path / "a.npz"


def write_packed(path):
    np.savez_compressed(path / "a.npz", **GIVEN)
    return path / "a.npz"


def write_folder(path):
    for name, array in GIVEN.items():
        np.save(path / f"{name}.npy", array)
    return path


def write_table(path):
    return write_csv(path / "a.csv", as_table())


def write_parquet(path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"label": GIVEN["labels"], "part": GIVEN["part"]}
    lists = {n: pa.array(GIVEN[n].tolist()) for n in ("original", "retrain", "retrain_2")}
    columns |= lists | {f"unlearned.{i}": GIVEN["unlearned"][:, i] for i in range(3)}
    parquet.write_table(pa.table(columns), path / "a.parquet")
    return path / "a.parquet"


@pytest.mark.parametrize(
    "write", [write_npz, write_packed, write_folder, write_table, write_parquet]
)
def test_every_form_holds_the_same_arrays(write, tmp_path):
    with open_arrays(write(tmp_path)) as found:
        assert set(found) == set(GIVEN)
        for name, array in GIVEN.items():
            same = found[name].astype(array.dtype) if name == "part" else found[name]
            np.testing.assert_array_equal(same, array)


def test_large_arrays_are_not_read_at_once(tmp_path):
    large = np.zeros((200_000, 3))
    np.savez(tmp_path / "a.npz", large=large, small=np.zeros(3))
    with open_arrays(tmp_path / "a.npz") as found:
        assert isinstance(found["large"], np.memmap)
        assert not isinstance(found["small"], np.memmap)


def ragged(path):
    path.write_text("label,part,original.0\n0,test,0.5\n0,test\n")


def words(path):
    path.write_text("label,part,original.0\n0,test,high\n")


def gap(path):
    path.write_text("label,part,original.0,original.2\n0,test,1,2\n")


def twice(path):
    path.write_text("label,part,original,original\n0,test,1,2\n")


def headless(path):
    path.write_text("label,part,original\n")


@pytest.mark.parametrize("write", [ragged, words, gap, twice, headless, lambda p: p.touch()])
def test_bad_tables_are_refused(write, tmp_path):
    write(tmp_path / "a.csv")
    with refused("outputs"):
        from_outputs(tmp_path / "a.csv")


def test_pickled_objects_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", original=np.array([{"a": 1}], dtype=object))
    with refused("outputs", "Python objects"):
        from_outputs(tmp_path / "a.npz")
    np.save(tmp_path / "original.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "a.npz").unlink()
    with refused("outputs", "Python objects"):
        from_outputs(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.parquet", "a.csv", "a.pkl", "a", "b/a.npz"])
def test_files_that_hold_nothing_are_refused(name, tmp_path):
    if "/" not in name:
        (tmp_path / name).write_bytes(b"" if name != "a.csv" else b"\xff\xfe\x00")
    with refused("outputs"):
        from_outputs(tmp_path / name)


def test_damaged_files_are_refused(tmp_path):
    whole = write_npz(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("original.txt", "1 2 3")
    with zipfile.ZipFile(tmp_path / "noise.npz", "w") as archive:
        archive.writestr("original.npy", b"1 2 3")
    (tmp_path / "empty").mkdir()
    for name in ("cut.npz", "text.npz", "noise.npz", "empty"):
        with refused("outputs"):
            from_outputs(tmp_path / name)


MEASURED = """
import resource, sys
import numpy as np
from ltu_jax.audit import outputs
from ltu_jax.audit.outputs import audit, layout
from ltu_jax.audit.outputs.collect import collect, find_sets
from ltu_jax.audit.outputs.kinds import check_kind
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with outputs.open_arrays(sys.argv[1]) as arrays:
    checked = audit._check(arrays, "auto", None)
    sets = find_sets(checked.split, 0)
    for name in checked.models:
        collect(arrays[name], checked.kind, checked.labels, sets, checked.classes)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_outputs(save, tmp_path):
    """A file of 240 MB (1.5 million rows) is checked and read with 150 MB more than at rest."""
    rng = np.random.default_rng(0)
    size = 1_500_000
    part = np.full(size, b"retain_unseen")
    part[:50_000], part[50_000:100_000] = b"forget", b"test"
    outputs = rng.normal(size=(size, 20)).astype(np.float32)
    labels = rng.integers(0, 20, size).astype(np.int32)
    save(tmp_path / "a.npz", labels=labels, part=part, original=outputs, unlearned=outputs + 1)
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "a.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert outputs.nbytes > 110e6
    assert int(run.stdout) < 150
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
