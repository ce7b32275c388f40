"""Methods by name, and their options from files."""

import json
from dataclasses import replace

import pytest

from ltu_jax.errors import InputError
from ltu_jax.unlearners import METHODS, find, read_config


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_a_name_a_summary_and_a_reference(name):
    assert find(name) is METHODS[name]
    assert METHODS[name].summary
    assert METHODS[name].reference


@pytest.mark.parametrize("method", ["forget_it", None, replace(METHODS["ltu"], name="retrain")])
def test_unknown_methods_and_names_of_reference_models_are_refused(method):
    with pytest.raises(InputError) as error:
        find(method)
    assert error.value.argument == "method"


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_options_come_from_a_file_or_from_the_tuning_of_a_run(tmp_path):
    path = write(tmp_path / "a.json", {"learning_rate": 1, "epochs": 3})
    config = read_config("finetune", path)
    assert config == replace(METHODS["finetune"].config, learning_rate=1, epochs=3)
    tuned = {"method": "finetune", "trials": [], "options": {"epochs": 4, "distill": 0.5}}
    config = read_config("finetune", write(tmp_path / "tuning.json", tuned))
    assert (config.epochs, config.distill) == (4, 0.5)
    path = write(tmp_path / "tuple.json", {"decay_epochs": [2, 4]})
    assert read_config("scrub", path).decay_epochs == (2, 4)


@pytest.mark.parametrize(
    ("content", "argument"),
    [
        ({"speed": 1}, "config"),
        ({"epochs": 2.5}, "config"),
        ({"epochs": True}, "config"),
        ({"schedule": 3}, "config"),
        ({"epochs": 0}, "epochs"),
        ([1], "config"),
        ("{", "config"),
        ('{"epochs": 1, "epochs": 2}', "config"),
        ({"method": "scrub", "trials": [], "options": {}}, "config"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, content, argument):
    with pytest.raises(InputError) as error:
        read_config("finetune", write(tmp_path / "a.json", content))
    assert error.value.argument == argument
