"""Requests, the index sets that follow from them, and wrong requests."""

import hashlib
import json
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltu_jax.data import request
from ltu_jax.errors import collect_warnings
from ltu_jax.types import Dataset, Examples, Split
from tests.refusals import refused


def make_dataset(train_labels, heldout_labels, num_classes, groups=None, ids=None):
    def examples(labels):
        labels = np.asarray(labels, np.int32)
        return Examples(np.zeros((len(labels), 2), np.float32), labels)

    names = np.array([f"train_{i}" for i in range(len(train_labels))]) if ids is None else ids
    classes = tuple(f"class {c}" for c in range(num_classes))
    return Dataset(
        "toy", examples(train_labels), examples(heldout_labels), names, classes, groups or {}
    )


@pytest.fixture
def dataset():
    """Twelve examples with the ids "0" to "11", class = index mod 3, two group columns."""
    index = np.arange(12)
    groups = {"colour": np.array(["red", "blue"])[index // 6], "age": index % 4}
    return make_dataset(index % 3, index % 3, 3, groups, ids=index.astype(str))


@st.composite
def cases(draw):
    """A data set of any class balance, and a request of any type that may or may not fit it."""
    num_classes = draw(st.integers(1, 5))
    train = draw(st.lists(st.integers(0, num_classes - 1), min_size=2, max_size=60))
    heldout = draw(st.lists(st.integers(0, num_classes - 1), min_size=2, max_size=30))
    groups = {"g": np.array([draw(st.sampled_from("ab")) for _ in train])}
    data = make_dataset(train, heldout, num_classes, groups)
    asked = draw(
        st.one_of(
            st.lists(st.sampled_from(data.train_ids.tolist()), unique=True).map(request.by_ids),
            st.lists(st.sampled_from(data.class_names)).map(request.by_class),
            st.integers(0, num_classes - 1).map(request.by_class),
            st.sampled_from("ab").map(lambda value: request.by_group("g", value)),
            st.builds(
                lambda fraction, seed: request.by_fraction(fraction, seed=seed),
                st.floats(0.01, 0.99),
                st.integers(0, 2**40),
            ),
        )
    )
    return data, asked


def expected_forget(data, asked):
    """Return the requested indices, computed in another way; None for a random share."""
    if asked.type == "ids":
        return [i for i, name in enumerate(data.train_ids) if name in asked.value]
    if asked.type == "class":
        wanted = {c for c in range(data.num_classes) if data.class_names[c] in asked.value}
        wanted |= {c for c in asked.value if isinstance(c, int)}
        return [i for i, label in enumerate(data.train.labels) if label in wanted]
    if asked.type == "group":
        return [i for i, value in enumerate(data.groups["g"]) if value in asked.value]
    return None


def assert_stratified(labels, picked, size):
    """Every class holds its exact share of `size`, rounded down or up."""
    assert len(picked) == size
    for label in np.unique(labels):
        share = Fraction(int(np.sum(labels == label)) * size, len(labels))
        assert abs(int(np.sum(labels[picked] == label)) - share) < 1


@given(cases(), st.floats(0.01, 1.0), st.integers(0, 2**40), st.integers(1, 40))
def test_split_keeps_the_forget_set_out_of_everything(case, retain_fraction, seed, size):
    data, asked = case
    total, heldout = len(data.train.labels), data.heldout.labels
    expected = expected_forget(data, asked)
    count = round(asked.value[0] * total) if expected is None else len(expected)
    if count in (0, total):
        with refused("forget", asked.type):
            request.resolve(asked, data)
        return
    forget = request.resolve(asked, data)
    assert forget.dtype == np.int64
    assert len(forget) == count
    assert expected in (None, forget.tolist())

    accessible_size = round(retain_fraction * (total - len(forget)))
    if accessible_size == 0:
        with refused("retain_fraction"):
            request.split(data, forget, retain_fraction=retain_fraction, seed=seed)
        return
    parts = request.split(data, forget, retain_fraction=retain_fraction, seed=seed)
    members = request.attack_members(parts, seed=seed, size=size)

    for part in (*parts, members.indices):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0), "sorted and without duplicates"
    assert sorted([*parts.forget, *parts.retain]) == list(range(total))
    assert sorted([*parts.validation, *parts.test]) == list(range(len(heldout)))
    np.testing.assert_array_equal(parts.forget, forget)
    assert set(parts.accessible) <= set(parts.retain)

    forget_ids = set(data.train_ids[forget])
    assert not forget_ids & set(data.train_ids[parts.accessible])
    assert not forget_ids & set(data.train_ids[members.indices])
    unseen = set(parts.retain) - set(parts.accessible)
    assert members.seen == (not unseen)
    assert set(members.indices) <= (unseen or set(parts.retain))
    assert len(members.indices) == min(size, len(unseen) or len(parts.retain))

    positions = np.searchsorted(parts.retain, parts.accessible)
    assert_stratified(data.train.labels[parts.retain], positions, accessible_size)
    validation_size = max(1, min(len(heldout) // 2, round(total / 5)))
    assert_stratified(heldout, parts.validation, validation_size)

    again = request.split(
        data, request.resolve(asked, data), retain_fraction=retain_fraction, seed=seed
    )
    jax.tree.map(np.testing.assert_array_equal, parts, again)


def test_parts_are_drawn_independently():
    labels = np.arange(400) % 10
    data = make_dataset(labels, labels, 10)
    forget = request.resolve(request.by_fraction(0.1, seed=1), data)
    parts = request.split(data, forget, retain_fraction=0.3, seed=1)
    wider = request.split(data, forget, retain_fraction=0.6, seed=1)
    other = request.split(data, forget, retain_fraction=0.3, seed=2)
    np.testing.assert_array_equal(parts.validation, wider.validation)
    np.testing.assert_array_equal(parts.test, wider.test)
    assert set(parts.accessible) < set(wider.accessible)
    assert set(parts.accessible) != set(other.accessible)
    assert set(parts.validation) != set(other.validation)
    assert set(forget) != set(request.resolve(request.by_fraction(0.1, seed=2), data))
    members = [set(request.attack_members(parts, seed=seed, size=50).indices) for seed in (1, 1, 2)]
    assert members[0] == members[1] != members[2]


def test_all_of_retain_may_be_accessible(dataset):
    parts = request.split(dataset, np.array([0, 5]), retain_fraction=1.0)
    np.testing.assert_array_equal(parts.accessible, parts.retain)
    members = request.attack_members(parts, seed=0, size=100)
    assert members.seen
    np.testing.assert_array_equal(members.indices, parts.retain)


def test_split_is_saved_and_loaded_exactly(dataset, tmp_path):
    parts = request.split(dataset, np.array([3, 4]), seed=5)
    path = tmp_path / "split"
    request.save_split(path, parts)
    loaded = request.load_split(path)
    assert isinstance(loaded, Split)
    jax.tree.map(np.testing.assert_array_equal, parts, loaded)
    for broken in (b"", b"no archive", path.read_bytes()[:100]):
        path.write_bytes(broken)
        with refused("run"):
            request.load_split(path)
    with refused("run"):
        request.load_split(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", forget=np.arange(3))
    with refused("run"):
        request.load_split(tmp_path / "other.npz")


def save_npy(path, array):
    np.save(path, array)
    return path


ID_FILES = {
    "plain.txt": b"3\n  7 \n\n11",
    "bom and crlf.txt": b"\xef\xbb\xbf3\r\n7\r\n\r\n11\r\n",
    "no suffix": b"3\n7\n11\n",
    "one column.csv": b"id\r\n3\r\n7\r\n\r\n11\r\n",
    "bom.csv": b'\xef\xbb\xbfid\n"3"\n7\n11\n',
    "UPPER.CSV": b"id\n3\n7\n11\n",
    "one column.tsv": b"id\n3\n7\n11\n",
    "strings.json": b'["3", "7", "11"]',
    "integers.json": b"\xef\xbb\xbf[11, 7, 3]",
}


@pytest.mark.parametrize("name", ID_FILES)
def test_ids_from_files(dataset, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(ID_FILES[name])
    for given_path in (path, str(path)):
        assert request.resolve(request.by_ids(given_path), dataset).tolist() == [3, 7, 11]


def test_ids_from_a_csv_column(dataset, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text('name, id\n"Doe, Jane",3\nRoe,7\n,11\n')
    assert request.resolve(request.by_ids(path, column="id"), dataset).tolist() == [3, 7, 11]


@pytest.mark.parametrize(
    "array", [np.array([11, 3, 7]), np.array(["3", "7", "11"]), np.array([b"3", b"7", b"11"])]
)
def test_ids_from_arrays(dataset, tmp_path, array):
    saved = save_npy(tmp_path / "ids.npy", array)
    for ids in (array, array.tolist(), tuple(array), iter(array), set(array.tolist()), saved):
        assert request.resolve(request.by_ids(ids), dataset).tolist() == [3, 7, 11]


def test_hashes_and_inner_spaces_are_part_of_ids(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("#1\na b\n\u2028x\n y \n", encoding="utf-8")
    assert request.by_ids(path).value == ("#1", "a b", "\u2028x", " y ")


@pytest.mark.parametrize(
    ("value", "index"),
    [("cat", 2), (2, 2), ("2", 2), ("index=0", 0), ("name=0", 1), (["index=1", "name=1"], [1, 0])],
)
def test_classes_by_name_and_index(value, index):
    data = make_dataset([0, 1, 2], [0, 1], 3)._replace(class_names=("1", "0", "cat"))
    expected = np.sort(np.atleast_1d(index)).tolist()
    assert request.resolve(request.by_class(value), data).tolist() == expected


def test_names_and_indices_have_arguments_of_their_own():
    data = make_dataset([0, 1, 2, 3], [0, 1], 4)._replace(class_names=("3", "2", "1", "4"))
    assert request.resolve(request.by_class(name="3"), data).tolist() == [0]
    assert request.resolve(request.by_class(index=[np.int8(3), 1]), data).tolist() == [1, 3]
    assert request.resolve(request.by_class("4"), data).tolist() == [3]
    with refused("index"):
        request.by_class(index="3")


@pytest.mark.parametrize(
    "names", [("1", "2", "3"), ("5", "4", "3", "2", "1", "0"), ("2", "b", "c")]
)
def test_a_name_that_is_another_classs_index_is_refused_as_text_and_as_a_number(names):
    data = make_dataset(range(len(names)), [0, 1], len(names))._replace(class_names=names)
    for value in (2, "2", np.int64(2)):
        with refused("forget", "name=2", "index=2"):
            request.resolve(request.by_class(value), data)


def test_names_of_classes_are_found_in_another_unicode_form():
    data = make_dataset([0, 1], [0, 1], 2)._replace(class_names=("Caf\u00e9", "bar"))
    with collect_warnings() as warnings:
        assert request.resolve(request.by_class("Cafe\u0301 "), data).tolist() == [0]
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("column", "value"), [("colour", "blue"), ("colour", np.str_("blue")), ("age", 2), ("age", "2")]
)
def test_a_group_is_found_by_its_value(dataset, column, value):
    expected = [i for i in range(12) if str(dataset.groups[column][i]) == str(value)]
    assert request.resolve(request.by_group(column, value), dataset).tolist() == expected


def test_describe_holds_no_ids():
    described = request.describe(request.by_ids(["secret_b", "secret_a"]))
    digest = hashlib.sha256(b"secret_a\nsecret_b\n").hexdigest()
    assert described == {"type": "ids", "count": 2, "sha256": digest}


@pytest.mark.parametrize(
    ("asked", "described"),
    [
        (request.by_class(["cat", np.int64(1)]), {"type": "class", "value": ["cat", 1]}),
        (
            request.by_group("age", [np.int64(3), 20]),
            {
                "type": "group",
                "column": "age",
                "count": 2,
                "sha256": hashlib.sha256(b"20\n3\n").hexdigest(),
            },
        ),
        (
            request.by_fraction(np.float64(0.5), seed=np.int64(4)),
            {"type": "fraction", "fraction": 0.5, "seed": 4},
        ),
    ],
)
def test_describe_is_json(asked, described):
    assert json.loads(json.dumps(request.describe(asked))) == described


# A request, and values that the message must contain.
WRONG_REQUESTS = {
    "unknown ids": (
        lambda: request.by_ids([0, "no", "nay", "never", "nil"]),
        ["4 of 5", "'no', 'nay', 'never', ... (4 in all)", "'0', '1', '2'"],
    ),
    "no ids": (lambda: request.by_ids([]), ["none", "12"]),
    "every id": (lambda: request.by_ids(range(12)), ["all of the 12"]),
    "a path as a list": (lambda: request.by_ids("7,8"), ["'7,8'"]),
    "bytes": (lambda: request.by_ids(b"78"), ["b'78'"]),
    "a number": (lambda: request.by_ids(7), ["7"]),
    "an array without axes": (lambda: request.by_ids(np.array(7)), ["7"]),
    "a mapping": (lambda: request.by_ids({"7": 1}), ["{'7': 1}"]),
    "float ids": (lambda: request.by_ids(np.array([7.0])), ["7.0", "write 7"]),
    "a missing id": (lambda: request.by_ids(["7", None]), ["None"]),
    "a missing value": (lambda: request.by_ids([1.0, np.nan], column="age"), ["nan"]),
    "a list as a value": (lambda: request.by_group("age", [[1], [2]]), ["[1]"]),
    "masked ids": (lambda: request.by_ids(np.ma.masked_equal([7, 8], 8)), ["masked"]),
    "a near id": (lambda: request.by_ids(["O7", "3"]), ["'O7'", "near ones are '7'"]),
    "values of a column": (lambda: request.by_ids(["red"]), ["'colour'", "`column`"]),
    "no such value": (lambda: request.by_ids([9], column="age"), ["'age'", "1 of 1 values"]),
    "a mask": (lambda: request.by_ids([True, False]), ["True"]),
    "nested ids": (lambda: request.by_ids([[1, 2]]), ["[1, 2]"]),
    "column of a list": (
        lambda: request.by_ids([7], column="id"),
        ["7", "'id'", "'colour', 'age'"],
    ),
    "class name": (lambda: request.by_class("dog"), ["'dog'", "'class 0'", "3"]),
    "class index": (lambda: request.by_class(3), ["class 3"]),
    "negative class": (lambda: request.by_class(-1), ["class -1"]),
    "second class": (lambda: request.by_class([0, "9"]), ["class 0, '9'"]),
    "no class": (lambda: request.by_class([]), ["class", "none"]),
    "every class": (lambda: request.by_class([0, 1, 2]), ["class 0, 1, 2", "all of"]),
    "class by a float": (lambda: request.by_class(1.0), ["1.0"]),
    "class by a bool": (lambda: request.by_class(True), ["True"]),
    "column": (lambda: request.by_group("size", 1), ["'size=1'", "'colour', 'age'"]),
    "value": (lambda: request.by_group("age", 9), ["'age=9'", "'0', '1', '2', ... (4"]),
    "one value of two": (lambda: request.by_group("age", [9, 1]), ["1 of 2 values", "9"]),
    "fraction 0": (lambda: request.by_fraction(0), ["0", "(0, 1)"]),
    "fraction 1": (lambda: request.by_fraction(1.0), ["1.0", "(0, 1)"]),
    "fraction -0.1": (lambda: request.by_fraction(-0.1), ["-0.1", "(0, 1)"]),
    "fraction NaN": (lambda: request.by_fraction(float("nan")), ["nan", "(0, 1)"]),
    "fraction of text": (lambda: request.by_fraction("ten"), ["'ten'", "(0, 1)"]),
    "rounds to none": (lambda: request.by_fraction(0.01), ["fraction 0.01", "none"]),
    "rounds to all": (lambda: request.by_fraction(0.99), ["fraction 0.99", "all"]),
}


@pytest.mark.parametrize("name", WRONG_REQUESTS)
def test_wrong_request(dataset, name):
    make, values = WRONG_REQUESTS[name]
    with refused("forget", *values):
        request.resolve(make(), dataset)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a spreadsheet's.csv", "person;id\nA, B;3\nC;7\nD;11\n"),
        ("tabs.csv", "id\tperson\n3\tA\n7\tB; C\n11\tD\n"),
        ("tabs.tsv", "person\tid\nA\t3\nB\t7\nC\t11\n"),
    ],
)
def test_tables_with_other_separators(dataset, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = request.by_ids(tmp_path / name, column="id")
    assert request.resolve(found, dataset).tolist() == [3, 7, 11]


WRONG_FILES = {
    "ids.parquet": (b"PAR1", None, ".parquet"),
    "ids.XLSX": (b"PK", None, ".xlsx"),
    "ids.jsonl": (b'{"id": 7}\n', None, ".jsonl"),
    "utf16.txt": ("7\n8\n".encode("utf-16"), None, "UTF-8 text"),
    "image.csv": (b"\x89PNG\r\n\x1a\n\xff\xff", None, "UTF-8 CSV"),
    "quotes.csv": (b'id\n"7"8\n', None, "UTF-8 CSV"),
    "broken.json": (b"[7, 8", None, "UTF-8 JSON"),
    "object.json": (b'{"7": 8}', None, "list"),
    "string.json": (b'"78"', None, "list"),
    "number.json": (b"78", None, "list"),
    "nested.json": (b"[7, [8]]", None, "[8]"),
    "null.json": (b"[7, null]", None, "None"),
    "deep.json": (b"[" * 100_000, None, "UTF-8 JSON"),
    "text.npy": (b"7\n8\n", None, "NumPy array"),
    "empty.npy": (b"", None, "NumPy array"),
    "two.csv": (b"id,name\n7,a\n", None, "'id', 'name'"),
    "absent.csv": (b"id,name\n7,a\n", "key", "'id', 'name'"),
    "twice.csv": (b"id,id\n7,8\n", "id", "2 columns 'id'"),
    "hole.csv": (b"name,id\na,7\nb,\n", "id", "row 3"),
    "short.csv": (b"name,id\na,7\nb\n", "id", "row 3"),
    "blank.csv": (b"", "id", "(none)"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_file(tmp_path, name):
    content, column, value = WRONG_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with refused("forget", str(path), value):
        request.by_ids(path, column=column)


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.array(7), "list"),
        (np.array([[7, 8]]), "[7, 8]"),
        (np.array([7.5]), "7.5"),
        (np.array([{"7": 8}], dtype=object), "pickles"),
    ],
)
def test_wrong_array_file(tmp_path, array, value):
    path = save_npy(tmp_path / "ids.npy", array)
    with refused("forget", str(path), value):
        request.by_ids(path)


def test_missing_file_and_directory(tmp_path):
    for path, reason in ((tmp_path / "none.txt", "No such file"), (tmp_path, "Is a directory")):
        with refused("forget", str(path), reason):
            request.by_ids(path)


def test_a_csv_without_a_header_loses_no_id(dataset, tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("3\n7\n")
    with refused("forget", "'3'"):
        request.resolve(request.by_ids(path), dataset)


def test_shared_ids_are_refused(dataset):
    data = dataset._replace(train_ids=np.array(["a"] * 12))
    with refused("data"):
        request.resolve(request.by_ids(["a"]), data)


@pytest.mark.parametrize("fraction", [0, -0.3, 1.01, float("nan"), float("inf"), "x", True, 0.01])
def test_wrong_retain_fraction(dataset, fraction):
    with refused("retain_fraction", repr(fraction)):
        request.split(dataset, np.array([0]), retain_fraction=fraction)


@pytest.mark.parametrize(
    "forget", [[], range(12), [-1], [12], [0.0], np.array([True] * 3 + [False] * 9)]
)
def test_wrong_forget_indices(dataset, forget):
    with refused("forget"):
        request.split(dataset, np.asarray(forget))


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0"])
def test_wrong_seed(dataset, seed):
    for draw in (
        lambda: request.by_fraction(0.5, seed=seed),
        lambda: request.split(dataset, np.array([0]), seed=seed),
    ):
        with refused("seed", repr(seed)):
            draw()


def test_too_small_for_a_report(dataset):
    lonely = make_dataset([0, 1, 0], [1], 2)
    with refused("data", "toy"):
        request.split(lonely, np.array([0]))
    parts = request.split(dataset, np.array([0]))
    with refused("size", "0"):
        request.attack_members(parts, seed=0, size=0)
