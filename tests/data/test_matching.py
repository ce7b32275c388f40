"""Values of requests are found in columns of any type; like ones with a warning, or refused."""

import datetime
import uuid
from decimal import Decimal

import jax.numpy as jnp
import numpy as np
import pytest

from ltu_jax.data import request
from ltu_jax.data.arrays import from_arrays
from ltu_jax.data.matching import by_text, by_value, difference, match
from ltu_jax.errors import collect_warnings
from tests.refusals import refused

INPUTS, LABELS = np.zeros((8, 2), np.float32), np.arange(8) % 2
DAY, NEXT = datetime.date(2024, 3, 1), datetime.date(2024, 3, 2)
NOON = datetime.datetime(2024, 3, 1, 12)
ZONED = NOON.replace(tzinfo=datetime.UTC)


def rows(asked, *, ids=None, **groups):
    """The rows of a request, and what was warned of."""
    data = from_arrays((INPUTS, LABELS), (INPUTS, LABELS), ids=ids, groups=groups)
    with collect_warnings() as warnings:
        return request.resolve(asked, data).tolist(), warnings


def column(value, other):
    """Eight rows: 1, 4 and 6 hold the value."""
    return [value if row in (1, 4, 6) else other for row in range(8)]


@pytest.mark.parametrize(
    ("asked", "held", "other", "quiet"),
    [
        (12, 12, 7, True),
        (np.uint8(12), np.int64(12), 7, True),
        ("12", "12", "7", True),
        (12, "12", "7", False),
        ("12", 12, 7, False),
        (12.0, 12, 7, False),
        (12, 12.0, 7.5, False),
        (12, "012", "007", False),
        ("12.0", "12", "7", False),
        ("1e2", 100, 7, False),
        (Decimal("0.10"), 0.1, 0.2, True),
        (0.1, np.float32(0.1), np.float32(0.2), True),
        (b"P7", "P7", "P8", True),
        (" P7", "P7", "P8", False),
        ("P7", "P7\u00a0", "P8", False),
        ("Zoe\u0308", "Zo\u00eb", "Zoe", False),
        (True, True, False, True),
        ("True", True, False, False),
        (DAY, np.datetime64(DAY), np.datetime64(NEXT), True),
        (np.datetime64("2024-03-01T00:00:00.000", "ns"), DAY, NEXT, True),
        (NOON, np.datetime64("2024-03-01T12", "h"), np.datetime64("2024-03-01T13", "h"), True),
        ("2024-03-01", DAY, NEXT, False),
        (DAY, "2024-03-01", "2024-03-02", False),
        (DAY, "2024-03-01 00:00:00", "2024-03-02 00:00:00", False),
        (NOON, "2024-03-01T12:00", "2024-03-01T12:01", False),
        (ZONED, "2024-03-01T14:00+02:00", "2024-03-01T14:00+03:00", False),
        ("2024-03-01T12:00Z", ZONED, NOON, False),
        (jnp.int32(12), 12, 7, True),
    ],
)
def test_values_are_equal_or_like_whatever_their_types(asked, held, other, quiet):
    for one in (request.by_ids([asked], column="who"), request.by_group("who", asked)):
        found, warnings = rows(one, who=column(held, other))
        assert found == [1, 4, 6]
        assert len(warnings) == (not quiet)
        assert not warnings or not any(str(v) in warnings[0] for v in (asked, held))


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        (12, ["12", "12.0", "x"]),
        ("12", [12, 12.0, "x"]),
        ("7 ", ["7", " 7", "x"]),
        ("A\u030a", ["\u00c5", " \u00c5", "x"]),
        (DAY, ["2024-03-01", "2024-03-01T00:00", "x"]),
    ],
)
def test_a_value_that_may_mean_two_is_refused(asked, values):
    with refused("forget", "several values"):
        rows(request.by_group("who", asked), who=np.array((values * 3)[:8], object))


def test_an_equal_value_comes_first_and_others_like_it_are_warned_of():
    who = np.array([12, "12", "x", 12, "012", "x", "x", "x"], object)
    found, warnings = rows(request.by_group("who", 12), who=who)
    assert (found, len(warnings)) == ([0, 3], 1)
    found, warnings = rows(request.by_ids(["a "]), ids=["a", "a ", *"bcdefg"])
    assert (found, len(warnings)) == ([1], 1)
    with refused("forget", "several ids"):
        rows(request.by_ids([" a"]), ids=["a", "a ", *"bcdefg"])


def test_ids_are_text_and_differ_in_nothing_but_spaces_and_unicode_form():
    padded = [f"P{i:<4}" for i in range(8)]
    found, warnings = rows(request.by_ids(["P3", "P1  "]), ids=padded)
    assert (found, len(warnings)) == ([1, 3], 1)
    for other in ("p3", "P03", "P 3"):
        with refused("forget"):
            rows(request.by_ids([other]), ids=padded)
    names = [uuid.UUID(int=i) for i in range(8)]
    assert rows(request.by_ids(names[2:4]), ids=names) == ([2, 3], [])


@pytest.mark.parametrize("again", [["a", "a", "b"], ["a", "b", " a"], ["b", "a", "b", "a"]])
def test_ids_that_are_given_twice_count_once(again):
    found, warnings = rows(request.by_ids(again), ids="abcdefgh")
    assert found == [0, 1]
    assert sum("more than once" in text for text in warnings) == 1


@pytest.mark.parametrize("name", ["ids.csv", "ids.txt", "ids.json", "ids.npy"])
def test_a_file_of_persons_selects_all_their_rows(tmp_path, name):
    path = tmp_path / name
    contents = {
        "ids.csv": b"visit,person\n1,31\n2,32\n",
        "ids.txt": b"31\n32\n",
        "ids.json": b"[31, 32]",
    }
    if name == "ids.npy":
        np.save(path, np.array([[31], [32]]))
    else:
        path.write_bytes(contents[name])
    person = np.array([31, 31, 31, 32, 32, 33, 33, 34])
    assert rows(request.by_ids(path, column="person"), person=person) == ([0, 1, 2, 3, 4], [])
    assert rows(request.by_ids([33, 34], column="person"), person=person)[0] == [5, 6, 7]


def test_a_csv_column_that_the_data_lack_holds_ids_of_the_data(tmp_path):
    (tmp_path / "ids.csv").write_text("row,note\n3,x\n5,y\n")
    assert rows(request.by_ids(tmp_path / "ids.csv", column="row")) == ([3, 5], [])
    with refused("forget", "'row'"):
        rows(request.by_ids([3, 5], column="row"))
    (tmp_path / "ids.txt").write_text("3\n")
    with refused("forget", "'row'"):
        rows(request.by_ids(tmp_path / "ids.txt", column="row"))


def test_missing_values_of_a_column_are_in_no_group():
    who = np.array([None, "a", np.nan, "b", "None", "nan", "a", "b"], object)
    assert rows(request.by_group("who", "None"), who=who) == ([4], [])
    assert rows(request.by_ids(["a", "nan"], column="who"), who=who) == ([1, 5, 6], [])


def test_a_mapping_is_no_value():
    with refused("forget"):
        rows(request.by_group("who", {"a": 1}), who=column("a", "b"))


def test_a_column_of_other_objects_cannot_be_searched():
    with refused("forget", "'who'"):
        rows(request.by_group("who", "a"), who=np.array([{1}] * 8, object))


def test_long_numbers_are_compared_in_full():
    held = 10**40 + 1
    assert match([str(held)], [held, 10**40], by_value).rows.tolist() == [0]
    assert match([10**40 + 2], [str(held), str(10**40)], by_value).unknown


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (12, "12", "integers in the request, text in the data"),
        ("a", " a", "outer spaces"),
        ("\u00eb", "e\u0308", "Unicode form"),
        ("\u00eb", "e\u0308 ", "Unicode form and outer spaces"),
        ("12", "012", "written"),
    ],
)
def test_differences_are_named_without_the_values(one, other, words):
    assert words in difference(one, other)
    assert by_text(("text", "a")) == by_text(("text", "a\t"))


def test_selected_values_are_those_of_the_data():
    data = from_arrays((INPUTS, LABELS), (INPUTS, LABELS), groups={"who": list("aabbccdd")})
    asked = request.by_ids([" a", "c"], column="who")
    selected = request.as_selected(asked, data, request.resolve(asked, data))
    assert selected == request.by_ids(["a", "c"], column="who")
    described = request.describe(selected)
    assert described["column"] == "who"
    assert described["count"] == 2
    assert set(described) == {"type", "column", "count", "sha256"}
    by_rows = request.by_ids([0, "1"])
    assert request.as_selected(by_rows, data, np.array([0, 1])).value == ("0", "1")
    assert request.as_selected(request.by_class(index=1), data, LABELS).value == ("1",)
