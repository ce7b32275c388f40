"""The Python call that a report shows: it repeats the run and names nobody."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import flax.linen as nn
import pytest

import ltu_jax
from ltu_jax.runs.calls import as_call
from ltu_jax.unlearners.ltu import Objective
from tests import tiny


class Net(nn.Module):
    """A module that a user wrote."""


def call(*positional, **given):
    signature = inspect.signature(ltu_jax.unlearn)
    bound = signature.bind(*positional, **given)
    bound.apply_defaults()
    return as_call(ltu_jax.unlearn, bound.arguments)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (lambda: call(), "ltu_jax.unlearn()"),
        (lambda: call("digits", "ids.txt"), 'ltu_jax.unlearn("digits", "ids.txt")'),
        (lambda: call(tiny.table(), tiny.FORGOTTEN), "ltu_jax.unlearn(data, ids)"),
        (
            lambda: call(tiny.table(), ltu_jax.by_ids(tiny.FORGOTTEN), model=Net, params={}),
            "ltu_jax.unlearn(data, ltu_jax.by_ids(ids), model=Net, params=params)",
        ),
        (
            lambda: call(tiny.table(), ltu_jax.by_group("site", "north"), model=Net()),
            'ltu_jax.unlearn(data, ltu_jax.by_group("site", values), model=model)',
        ),
        (
            lambda: call(forget=ltu_jax.by_class(["3", 5]), seed=7, epochs=2),
            'ltu_jax.unlearn("digits", ltu_jax.by_class(["3", 5]), epochs=2, seed=7)',
        ),
        (
            lambda: call(forget=ltu_jax.by_fraction(0.2, seed=1), checkpoint=Path("a") / "b"),
            'ltu_jax.unlearn("digits", ltu_jax.by_fraction(0.2, seed=1), checkpoint="a/b")',
        ),
        (
            lambda: call(config=ltu_jax.LTUConfig(steps=5), quiet=True, out="x", only=("head/*",)),
            "ltu_jax.unlearn(config=ltu_jax.LTUConfig(steps=5), only=('head/*',))",
        ),
        (lambda: call(only=lambda path: True), "ltu_jax.unlearn(only=only)"),
        (
            lambda: call(recipe=ltu_jax.Recipe(epochs=3)),
            "ltu_jax.unlearn(recipe=ltu_jax.Recipe(epochs=3))",
        ),
    ],
)
def test_the_call_repeats_the_run(given, shown):
    assert given() == shown


def test_what_the_call_shows_is_the_same_call():
    for text in (
        'ltu_jax.unlearn("digits", ltu_jax.by_class("3"), epochs=2)',
        "ltu_jax.unlearn(config=ltu_jax.LTUConfig(steps=5, query_size=16))",
    ):
        names = {name: getattr(ltu_jax, name) for name in ltu_jax.__all__}
        recorder = SimpleNamespace(**{**names, "unlearn": call})
        assert eval(text, {"ltu_jax": recorder}) == text


def test_an_option_without_short_source_is_named():
    shown = call(config=ltu_jax.LTUConfig(objective=Objective(support=1)))
    assert "object at 0x" not in shown
    assert "<function" not in shown
