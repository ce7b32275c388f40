"""Values that a user can get wrong: refused in one line, before any compute."""

from pathlib import Path

import numpy as np
import pytest

import ltu_jax
from ltu_jax.errors import InputError
from tests import tiny
from tests.cli.test_main import head

TABLE = ["--data", "tests.tiny:table"]


@pytest.fixture
def taken(workplace):
    """A file, and a folder that holds something."""
    (workplace / "a_file").write_text("")
    (workplace / "taken").mkdir()
    (workplace / "taken" / "x").write_text("")


VALUES = {
    "data": ["no_such", "..", "../x", "/etc/passwd", "a b", "own:", "cifar10:99.0.0"],
    "model": ["gpt", "CNN", "mlp ", "../cnn"],
    "method": ["LTU", "ltu ", "..", "original"],
    "forget-class": ["dead", "²", "1.0", "-1", "9" * 5000, "a\nb"],
    "forget-group": [
        *("site", "=", "site=", "=x"),
        *("town=north", "site=north=x", "site=NORTH"),
    ],
    "forget-fraction": ["0", "1", "-1", "nan", "inf", "1e-300", "0.999"],
    "retain-fraction": ["0", "-1", "1.01", "nan", "inf", "1e-9"],
    "seed": ["-1", "4294967296"],
    "epochs": ["0", "-3", "9" * 20, "-" + "9" * 20],
    "train-size": ["0", "5", "121", "9" * 20],
    "save-every": ["0", "-1", "9" * 20],
    "only": ["Dense_9", "*"],
    "checkpoint": ["gone", "a_file", "taken", "a\0b"],
    "out": ["a_file", "a_file/x", "taken", "a\0b", "x" * 300, "/dev/null"],
    "resume": ["gone", "taken", "a_file"],
}
CASES = [(option, value) for option, values in VALUES.items() for value in values]


@pytest.mark.parametrize(
    ("option", "value"), CASES, ids=[f"{option}={value[:12]!r}" for option, value in CASES]
)
def test_a_value_is_refused_with_the_name_of_its_option(refused, taken, option, value):
    data = [] if option in ("data", "resume") else TABLE
    assert head(refused("unlearn", *data, f"--{option}", value)) == f"--{option}"


OTHER_COMMANDS = [
    ("unlearn --forget-class 0 --forget-class 1", "--forget-class"),
    ("unlearn --forget-group site=north --forget_group=site=south", "--forget-group"),
    ("unlearn --seed 1 --method finetune --seed=2", "--seed"),
    ("unlearn --forget-group site=north ward=3", "--forget-group"),
    ("unlearn --forget-group site=north north", "--forget-group"),
    ("ensemble --type distilled", "--type"),
    ("ensemble --type ../x", "--type"),
    ("ensemble --type", "--type"),
    ("ensemble --size 1", "--size"),
    ("ensemble --size -2", "--size"),
    ("ensemble --size 1000000000", "--size"),
    ("ensemble --ensembles a_file", "--ensembles"),
    ("ensemble --type shadow --forget-class 0", "--type"),
    ("ensemble --forget-class dead", "--forget-class"),
    ("tune --trials 0", "--trials"),
    ("tune --trials 99999999999", "--trials"),
    ("tune --select oracle --reference none", "--select"),
    ("compare --out c --scenarios all", "--scenarios"),
    ("compare --out c --scenarios", "--scenarios"),
    ("compare --out c --methods magic", "--methods"),
    ("compare --out c --methods gone:M", "--methods"),
    ("compare --out c --train-seeds -1", "--train-seeds"),
    ("compare --out c --train-seeds 99999999999", "--train-seeds"),
    ("compare --out c --train-seeds", "--train-seeds"),
    ("compare --out c --unlearn-seeds -1", "--unlearn-seeds"),
    ("compare --out c --unlearn-seeds 99999999999", "--unlearn-seeds"),
    ("compare --out c --select-seed -1", "--select-seed"),
    ("compare --out c --select-seed 0", "--select-seed"),
    ("compare --out c --trials 0", "--trials"),
    ("compare --out c --epochs 0", "--epochs"),
    ("compare --out c --retain-fraction 0", "--retain-fraction"),
    ("compare --out c --model gpt", "--model"),
    ("compare --out c --train-size 5", "--train-size"),
    ("compare --out a_file", "--out"),
    ("compare --out c --cache a_file", "--cache"),
]
WITHOUT_DATA = [
    ("ensemble --run gone", "--run"),
    ("ensemble --run taken", "--run"),
    ("ensemble --run a_file", "--run"),
    ("ensemble --run gone --forget-class 1 --seed 2", "--run"),
    ("unlearn --resume gone --seed 3", "--resume"),
    ("unlearn --stream", "--stream"),
    ("unlearn --resume gone --stream", "--resume"),
    ("unlearn --dry-run --run gone", "--dry-run"),
    ("export gone --to card", "RUN"),
    ("export taken --to bom", "RUN"),
    ("audit", "RUN"),
    ("audit gone", "RUN"),
    ("audit gone --outputs gone.npz", "RUN"),
    ("audit gone --kind logits", "--kind"),
    ("audit gone --write-outputs a.csv", "--write-outputs"),
    ("audit gone --out new", "--out"),
    ("audit --outputs gone.npz", "--outputs"),
    ("audit --outputs a_file", "--outputs"),
    ("audit --outputs a_file --out taken", "--out"),
    ("audit --outputs a_file --alpha 2", "--alpha"),
    ("audit --outputs a_file --ensembles gone", "--ensembles"),
    ("audit --outputs a_file --write-outputs b.npz", "--write-outputs"),
    ("audit taken", "RUN"),
    ("audit a_file", "RUN"),
    *((f"audit gone --alpha {x}", "--alpha") for x in (0, 1, -1, "nan")),
    ("selfcheck --seed -1", "--seed"),
    ("unlearn --data cifar10 --data-dir gone", "--data-dir"),
    ("compare --out c --data no_such", "--data"),
    ("unlearn --forget-class 1 --forget-fraction 0.1", "--forget-class"),
    ("unlearn --forget-id-column id", "--forget-id-column"),
]


@pytest.mark.parametrize(("command", "argument"), [*OTHER_COMMANDS, *WITHOUT_DATA])
def test_other_commands_refuse_as_plainly(refused, taken, command, argument):
    name, *options = command.split()
    data = TABLE if (command, argument) in OTHER_COMMANDS else []
    assert head(refused(name, *data, *options)) == argument


def test_other_arguments_are_named_by_their_flags(refused):
    line = refused("tune", *TABLE, "--select", "oracle", "--reference", "none")
    assert "--reference" in line.split(";")[1]
    line = refused("unlearn", "--resume", "gone", "--seed", "3", "--data-dir", "x")
    assert "--data-dir, --seed" in line


@pytest.mark.parametrize("option", ["--out", "--data", "--forget-class", "--checkpoint"])
def test_bytes_that_are_no_text_are_refused_before_they_reach_a_report(refused, option):
    assert "'caf\\udce9' is not UTF-8" in refused("unlearn", option, "caf\udce9")


# Arguments of `ltu_jax.unlearn` that no command line could give.
PYTHON = [
    ({"data": None}, "data"),
    ({"data": Path("digits")}, "data"),
    ({"data": tiny.table()._replace(train=3)}, None),
    ({"data": tiny.table()._replace(train_ids=None)}, None),
    ({"data": tiny.table()._replace(groups=[1])}, None),
    ({"data": tiny.table()._replace(mean="grey")}, None),
    ({"data": tiny.table()._replace(class_names=3)}, None),
    ({"data": tiny.table()._replace(name="\udce9")}, None),
    ({"data": tiny.table()._replace(class_names="a\udce9b")}, None),
    ({"forget": 3}, "forget"),
    ({"forget": [None]}, "forget"),
    ({"forget": {"patient-0001": 1}}, "forget"),
    ({"forget": np.zeros((2, 2), int)}, "forget"),
    ({"model": 3}, "model"),
    ({"method": None}, "method"),
    ({"config": {"steps": 3}}, "config"),
    ({"checkpoint": 3}, "checkpoint"),
    ({"recipe": {"epochs": 3}}, "recipe"),
    ({"retain_fraction": None}, "retain_fraction"),
    ({"retain_fraction": True}, "retain_fraction"),
    ({"reference": None}, "reference"),
    ({"trials": 1.5, "config": None}, "trials"),
    ({"trials": 2, "config": None, "select": "best"}, "select"),
    ({"trials": 2}, "config"),
    *(({"epochs": value}, "epochs") for value in (1.5, "2", True, [1])),
    *(({"seed": value}, "seed") for value in (None, 1.0, True)),
    ({"train_size": 3}, "train_size"),
    ({"data": "digits", "train_size": "3"}, "train_size"),
    ({"stream": True}, "stream"),
    ({"data_dir": 3}, "data_dir"),
    ({"save_every": None}, "save_every"),
    ({"out": 3}, "out"),
    ({"out": b"run"}, "out"),
    ({"out": "a\udce9"}, "out"),
]


@pytest.mark.parametrize(("options", "argument"), PYTHON)
def test_a_call_is_refused_as_a_command_is(workplace, options, argument):
    usual = {"data": tiny.table(), "forget": tiny.FORGOTTEN, "config": tiny.TINY_LTU, "out": "run"}
    with pytest.raises(InputError) as caught:
        ltu_jax.unlearn(**{**usual, **options})
    assert argument in (None, tiny.argument(caught.value))
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
    with pytest.raises(InputError) as caught:
        ltu_jax.Recipe(**options)
    assert tiny.argument(caught.value) == next(iter(options))
