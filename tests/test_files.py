"""Files are written whole or not at all; digests cover names, types, shapes and values."""

import json
import os
import stat

import ml_dtypes
import numpy as np
import pytest

from ltu_jax import files
from ltu_jax.errors import DamagedError, InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("step", ["fdopen", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_content(tmp_path, monkeypatch, step):
    files.write(tmp_path / "a", b"old")

    def fail(*args, **options):
        raise OSError("no space")

    with monkeypatch.context() as context:
        context.setattr(files.os, step, fail)
        with pytest.raises(OSError, match="no space"):
            files.write(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]
    files.write(tmp_path / "a", b"new", mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o600


def test_create_never_replaces_a_file(tmp_path):
    files.create(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        files.create(tmp_path / "a", b"second")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"first"


def test_json_holds_finite_numbers_alone(tmp_path):
    files.write_json(tmp_path / "new" / "a.json", {"é": [1.5, None]})
    assert json.loads((tmp_path / "new" / "a.json").read_text("utf-8")) == {"é": [1.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "new" / "a.json", [float("nan")])


def test_checksummed_json_detects_every_change(tmp_path):
    path, content = tmp_path / "a.json", {"loss": float("inf"), "names": ["x"]}
    files.write_checksummed(path, content)
    assert files.read_checksummed(path) == content
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole.replace(b'"x"', b'"y"'), b"[1]", b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"a\.json"):
            files.read_checksummed(path)
    with pytest.raises(DamagedError, match="none"):
        files.read_checksummed(tmp_path / "none")


def test_arrays_are_read_back_and_a_wrong_file_is_named(tmp_path):
    path, rows = tmp_path / "a.npz", np.arange(3)
    files.write_arrays(path, {"rows": rows, "more": rows})
    np.testing.assert_array_equal(files.read_arrays(path, ["rows"], "run"), [rows])
    whole = path.read_bytes()
    for damaged in (whole[:-30], b"", None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(InputError) as caught:
            files.read_arrays(path, ["rows"], "run")
        assert caught.value.argument == "run"
    path.write_bytes(whole)
    with pytest.raises(InputError):
        files.read_arrays(path, ["labels"], "run")


def test_a_new_folder_appears_at_the_end_or_never(tmp_path):
    def fail():
        with files.new_folder(tmp_path / "a") as part:
            (part / "x").write_text("1")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(tmp_path) == []
    with files.new_folder(tmp_path / "a") as part:
        (part / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    with files.new_folder(tmp_path / "a") as part:  # as if by a slower process
        (part / "x").write_text("2")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a" / "x").read_text() == "1"


def test_folders_are_compared_by_the_digest_of_every_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x").write_text("1")
    (tmp_path / "y").write_text("2")
    expected = files.file_digests(tmp_path)
    assert sorted(expected) == ["sub/x", "y"]
    files.check_files(tmp_path, expected)
    for name, text in (("sub/x", "3"), ("z", "new"), ("y", None)):
        path = tmp_path / name
        before = path.read_text() if path.exists() else None
        path.unlink() if text is None else path.write_text(text)
        with pytest.raises(DamagedError, match=name):
            files.check_files(tmp_path, expected)
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_text(before)
    files.check_files(tmp_path, expected)


def test_array_digests_cover_names_types_shapes_and_values():
    table = np.arange(6, dtype=np.int32)
    arrays = [
        {"a": table},
        {"b": table},
        {"a": table[::-1]},
        {"a": table.reshape(2, 3)},
        {"a": table.view(np.uint32)},
        {"a": table, "b": table},
        {"a": np.array(["x", "y"])},
        {"a": np.zeros((0, 3))},
        {"a": np.zeros((3, 0))},
        {"a": np.array(1.0)},
        {"a": np.array([1.0])},
        {"a": np.array(1.0, ml_dtypes.bfloat16)},
    ]
    assert len({files.array_digest(one) for one in arrays}) == len(arrays)


def test_array_digests_ignore_memory_layout_and_order_of_names():
    table = np.arange(12.0).reshape(3, 4)
    digest = files.array_digest
    assert digest({"a": table}) == digest({"a": np.asfortranarray(table)})
    assert digest({"a": table[:, ::2]}) == digest({"a": table[:, ::2].copy()})
    assert digest({"a": table, "b": table[0]}) == digest({"b": table[0], "a": table})
