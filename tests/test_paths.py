"""Paths that users give: expanded, or refused with the argument named."""

from pathlib import Path

import pytest

from ltu_jax import paths
from ltu_jax.errors import InputError


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [("~", "."), ("~/deep/er", "deep/er"), ("file:///etc/x%20y", "/etc/x y")],
)
def test_home_and_file_urls_become_local_paths(home, given, expected):
    assert paths.local("out", given) == home / expected


@pytest.mark.parametrize("given", ["./~/x", "a~b", "~~", "gs", "ab:c/d"])
def test_other_names_are_left_alone(home, given):
    assert paths.anywhere("out", given) == given


@pytest.mark.parametrize(
    "bucket", ["gs://b/r", "s3://b", "abfss://c@h/x", "r2://b/r", "HTTPS://h/x"]
)
def test_a_bucket_is_a_name_for_orbax_but_no_local_path(bucket):
    assert paths.anywhere("checkpoint", bucket) == bucket
    with pytest.raises(InputError) as caught:
        paths.local("ensembles", bucket)
    assert caught.value.argument == "ensembles"


def test_a_bucket_that_passed_through_a_path_keeps_its_name():
    assert paths.anywhere("checkpoint", Path("gs://b/r")) == "gs://b/r"


@pytest.mark.parametrize("given", ["a/" * 1000 + "b" * 2000, "nul\0", 3, b"run"])
def test_impossible_paths_are_refused(given):
    with pytest.raises(InputError) as caught:
        paths.local("out", given)
    assert caught.value.argument == "out"


def test_a_home_that_nobody_knows_is_refused(monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda text: text)
    with pytest.raises(InputError) as caught:
        paths.anywhere("data_dir", "~/x")
    assert caught.value.argument == "data_dir"
