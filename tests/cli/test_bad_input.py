"""Values that a user can get wrong: refused in one line, before any compute."""

from pathlib import Path

import numpy as np
import pytest

import ltu_jax
from ltu_jax.errors import InputError
from tests import tiny

TABLE = ["--data", "tests.tiny:table"]


@pytest.fixture
def taken(workplace):
    """A file, and a folder that holds something."""
    (workplace / "a_file").write_text("")
    (workplace / "taken").mkdir()
    (workplace / "taken" / "x").write_text("")


# An option's value, and what the line must say beside `--option value`.
VALUES = [
    *(
        ("data", name, "catalog")
        for name in ("no_such", "..", "../x", "/etc/passwd", "a b", "own:")
    ),
    ("data", "cifar10:99.0.0", "only: "),
    *(("model", name, "choose one of mlp, cnn") for name in ("gpt", "CNN", "mlp ", "../cnn")),
    *(("method", name, "choose one of nothing, ") for name in ("LTU", "ltu ", "..", "original")),
    *(("forget-class", name, "a name such as 'healthy'") for name in ("dead", "²", "1.0", "-1")),
    ("forget-class", "9" * 5000, "an index below 3"),
    ("forget-class", "a\nb", "a name such as 'healthy'"),
    *(("forget-group", text, "write it as COLUMN=VALUE") for text in ("site", "=", "site=", "=x")),
    ("forget-group", "town=north", "its columns are 'site'"),
    ("forget-group", "site=north=x", "it holds 'north', 'south'"),
    ("forget-group", "site= north", "it holds 'north', 'south'"),
    *(("forget-fraction", text, "give a fraction") for text in ("0", "1", "-1", "nan", "inf")),
    ("forget-fraction", "1e-300", "select some"),
    ("forget-fraction", "0.999", "leave at least one"),
    *(("retain-fraction", text, "give a fraction") for text in ("0", "-1", "1.01", "nan", "inf")),
    ("retain-fraction", "1e-9", "raise it"),
    *(("seed", text, "at least 0 and below 2**32") for text in ("-1", "4294967296")),
    *(("epochs", text, "above 0") for text in ("0", "-3")),
    *(("train-size", text, "from 6 (two examples a class) to 120") for text in ("0", "5", "121")),
    *(("epochs", text, "below 2**31") for text in ("9" * 20, "-" + "9" * 20)),
    ("train-size", "9" * 20, "below 2**31"),
    *(("save-every", text, "above 0") for text in ("0", "-1")),
    ("save-every", "9" * 20, "below 2**31"),
    ("only", "Dense_9", "matches none of the parameters Dense_0/bias, Dense_0/kernel"),
    ("only", "*", "choose some, or leave it out"),
    ("checkpoint", "gone", "RUN/original"),
    ("checkpoint", "a_file", "RUN/original"),
    ("checkpoint", "taken", "RUN/original"),
    ("checkpoint", "a\0b", "NUL character"),
    ("out", "a_file", "another folder"),
    ("out", "a_file/x", "another folder"),
    ("out", "taken", "name a new folder"),
    ("out", "a\0b", "NUL character"),
    ("out", "x" * 300, "another folder"),
    ("out", "/dev/null", "another folder"),
    ("resume", "gone", "ltu unlearn named"),
    ("resume", "taken", "ltu unlearn named"),
    ("resume", "a_file", "ltu unlearn named"),
]


def spellings(option, value):
    """What an error may call the value: as it was typed, quoted, as a number, as a full path."""
    yield from (value, repr(value)[:70])
    if "fraction" in option:
        yield str(float(value))
    if option == "checkpoint":
        yield str(Path(value).absolute())


@pytest.mark.parametrize(
    ("option", "value", "remedy"), VALUES, ids=[f"{o}={v[:12]!r}" for o, v, _ in VALUES]
)
def test_a_value_is_refused_with_its_name_and_a_remedy(refused, taken, option, value, remedy):
    data = [] if option in ("data", "resume") else TABLE
    line = refused("unlearn", *data, f"--{option}", value)
    assert any(f"--{option} {spelling}" in line for spelling in spellings(option, value))
    assert remedy in line


OTHER_COMMANDS = [
    ("pool --kind distilled", "--kind distilled", "choose among original"),
    ("pool --kind ../x", "--kind ../x", "choose among original"),
    ("pool --kind", "--kind: names no pool", "choose among original"),
    ("pool --size 1", "--size 1", "at least 2 networks"),
    ("pool --size -2", "--size -2", "at least 2 networks"),
    ("pool --size 1000000000", "--size 1000000000", "at most 10,000 networks"),
    ("pool --pools a_file", "--pools a_file", "another folder"),
    ("pool --kind shadow --forget-class 0", "--kind shadow", "take the kinds original"),
    ("pool --forget-class dead", "--forget-class 'dead'", "a name such as"),
    ("tune --trials 0", "--trials 0", "give at least 1"),
    ("tune --trials 99999999999", "--trials 99999999999", "below 2**31"),
    ("tune --select oracle --reference none", "--select oracle", "leave out --reference none"),
    ("compare --out c --scenarios all", "--scenarios all", "choose from random_10"),
    ("compare --out c --scenarios", "--scenarios", "give at least one"),
    ("compare --out c --methods magic", "--methods magic", "choose one of nothing"),
    ("compare --out c --methods gone:M", "--methods gone:M", "install it"),
    ("compare --out c --train-seeds -1", "--train-seeds -1", "give 0 or more"),
    ("compare --out c --train-seeds 99999999999", "--train-seeds 99999999999", "below 2**31"),
    ("compare --out c --train-seeds", "--train-seeds", "give at least one"),
    ("compare --out c --unlearn-seeds -1", "--unlearn-seeds -1", "give 0 or more"),
    ("compare --out c --unlearn-seeds 99999999999", "--unlearn-seeds 99999999999", "2**31"),
    ("compare --out c --select-seed -1", "--select-seed -1", "give 0 or more"),
    ("compare --out c --select-seed 0", "--select-seed 0", "is one of --train-seeds"),
    ("compare --out c --trials 0", "--trials 0", "give at least 1"),
    ("compare --out c --epochs 0", "--epochs 0", "above 0"),
    ("compare --out c --retain-fraction 0", "--retain-fraction 0.0", "give a fraction"),
    ("compare --out c --model gpt", "--model gpt", "choose one of mlp"),
    ("compare --out c --train-size 5", "--train-size 5", "from 6"),
    ("compare --out a_file", "--out a_file", "another folder"),
    ("compare --out c --cache a_file", "--cache a_file", "another folder"),
]
WITHOUT_DATA = [
    ("pool --run gone", "--run gone", "ltu unlearn named"),
    ("pool --run taken", "--run taken", "ltu unlearn named"),
    ("pool --run a_file", "--run a_file", "ltu unlearn named"),
    (
        "pool --run gone --forget-class 1 --seed 2",
        "settles --forget-class, --seed",
        "leave them out",
    ),
    ("unlearn --resume gone --seed 3", "settles --seed", "leave them out"),
    ("unlearn --stream", "--stream: --data digits is in memory", "leave it out"),
    ("unlearn --resume gone --stream", "settles --stream", "leave them out"),
    ("audit gone", "RUN gone", "ltu unlearn named"),
    ("audit taken", "RUN taken", "ltu unlearn named"),
    ("audit a_file", "RUN a_file", "ltu unlearn named"),
    *(
        (f"audit gone --alpha {x}", f"--alpha {float(x)}", "such as 0.05")
        for x in (0, 1, -1, "nan")
    ),
    ("selfcheck --seed -1", "--seed -1", "at least 0"),
    ("unlearn --data cifar10 --data-dir gone", "--data-dir gone", "name the one"),
    ("compare --out c --data no_such", "--data no_such", "catalog"),
    ("unlearn --forget-class 1 --forget-fraction 0.1", "--forget-fraction", "leave out"),
    ("unlearn --forget-id-column id", "--forget-id-column id", "--forget-ids"),
]


@pytest.mark.parametrize(("command", "named", "remedy"), [*OTHER_COMMANDS, *WITHOUT_DATA])
def test_other_commands_refuse_as_plainly(refused, taken, command, named, remedy):
    name, *options = command.split()
    data = TABLE if (command, named, remedy) in OTHER_COMMANDS else []
    line = refused(name, *data, *options)
    assert named in line
    assert remedy in line


@pytest.mark.parametrize("option", ["--out", "--data", "--forget-class", "--checkpoint"])
def test_bytes_that_are_no_text_are_refused_before_they_reach_a_report(refused, option):
    assert "'caf\\udce9': is not UTF-8" in refused("unlearn", option, "caf\udce9")


# Arguments of `ltu_jax.unlearn` that no command line could give.
PYTHON = [
    ({"data": None}, "NoneType", "from_arrays"),
    ({"data": Path("digits")}, "PosixPath", "from_arrays"),
    ({"data": tiny.table()._replace(train=3)}, "train", "pair of arrays"),
    ({"data": tiny.table()._replace(train_ids=None)}, "ids", "pass a sequence"),
    ({"data": tiny.table()._replace(groups=[1])}, "groups is a list", "mapping"),
    ({"data": tiny.table()._replace(mean="grey")}, "mean='grey'", "finite number"),
    ({"data": tiny.table()._replace(class_names=3)}, "class_names is 3", "pass a sequence"),
    ({"data": tiny.table()._replace(name="\udce9")}, "'\\udce9'", "rename it"),
    ({"data": tiny.table()._replace(class_names="a\udce9b")}, "'\\udce9'", "rename it"),
    ({"forget": 3}, "--forget-ids 3", "flat list"),
    ({"forget": [None]}, "None is no id", "flat list"),
    ({"forget": {"patient-0001": 1}}, "--forget-ids", "flat list"),
    ({"forget": np.zeros((2, 2), int)}, "[0, 0] is no id", "flat list"),
    ({"model": 3}, "model: a int", "a Linen module"),
    ({"method": None}, "--method None", "choose one of"),
    ({"config": {"steps": 3}}, "config: is a dict", "LTUConfig"),
    ({"checkpoint": 3}, "--checkpoint 3", "give another"),
    ({"recipe": {"epochs": 3}}, "recipe: is a dict", "ltu_jax.Recipe"),
    ({"retain_fraction": None}, "--retain-fraction None", "give a fraction"),
    ({"retain_fraction": True}, "--retain-fraction True", "give a fraction"),
    ({"reference": None}, "--reference None", "choose one of"),
    ({"trials": 1.5, "config": None}, "--trials 1.5", "give one"),
    ({"trials": 2, "config": None, "select": "best"}, "--select best", "choose one of"),
    ({"trials": 2}, "config", "give one of the two"),
    *(({"epochs": value}, f"--epochs {value!r}", "give one") for value in (1.5, "2", True, [1])),
    *(({"seed": value}, f"--seed {value}", "give an integer") for value in (None, 1.0, True)),
    ({"train_size": 3}, "train_size 3", "before from_arrays"),
    ({"data": "digits", "train_size": "3"}, "--train-size '3'", "give one"),
    ({"stream": True}, "stream", "leave it out"),
    ({"data_dir": 3}, "--data-dir 3", "give another"),
    ({"save_every": None}, "--save-every None", "give one"),
    ({"out": 3}, "--out 3", "give another"),
    ({"out": b"run"}, "--out b'run'", "give another"),
    ({"out": "a\udce9"}, "--out 'a\\udce9'", "give another"),
]


@pytest.mark.parametrize(("options", "named", "remedy"), PYTHON)
def test_a_call_is_refused_as_a_command_is(workplace, options, named, remedy):
    usual = {"data": tiny.table(), "forget": tiny.FORGOTTEN, "config": tiny.TINY_LTU, "out": "run"}
    with pytest.raises(InputError) as caught:
        ltu_jax.unlearn(**{**usual, **options})
    assert named in str(caught.value)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"epochs": 2.5},
        {"batch_size": 0},
        {"momentum": float("nan")},
    ],
)
def test_a_recipe_of_no_numbers_is_refused(options):
    with pytest.raises(InputError, match=next(iter(options)).replace("_", ".")):
        ltu_jax.Recipe(**options)
