"""Fingerprints cover everything that a trained model depends on."""

import jax
import numpy as np
import pytest

from ltu_jax.models import build, from_functions, with_preprocessing
from ltu_jax.models.fingerprint import fingerprint, program

INPUTS = np.ones((2, 6), np.float32)


def test_fingerprints_cover_arrays_settings_and_texts():
    array = np.arange(6, dtype=np.int32)
    base = fingerprint({"rows": array}, {"seed": 0, "kind": "a"}, "text")
    assert len(base) == 64
    assert base == fingerprint({"rows": array.copy()}, {"kind": "a", "seed": 0}, "text")
    others = [
        fingerprint({"labels": array}, {"seed": 0, "kind": "a"}, "text"),
        fingerprint({"rows": array[::-1]}, {"seed": 0, "kind": "a"}, "text"),
        fingerprint({"rows": array.reshape(2, 3)}, {"seed": 0, "kind": "a"}, "text"),
        fingerprint({"rows": array.view(np.uint32)}, {"seed": 0, "kind": "a"}, "text"),
        fingerprint({"rows": array}, {"seed": 1, "kind": "a"}, "text"),
        fingerprint({"rows": array}, {"seed": 0, "kind": "a"}, "other"),
    ]
    assert len({base, *others}) == 7


def test_fingerprints_ignore_memory_layout():
    table = np.arange(12.0).reshape(3, 4)
    assert fingerprint({"x": table}, {}) == fingerprint({"x": np.asfortranarray(table)}, {})
    assert fingerprint({"x": table[:, ::2]}, {}) == fingerprint({"x": table[:, ::2].copy()}, {})


def test_fingerprints_cover_jax_and_the_backend(monkeypatch):
    base = fingerprint({}, {})
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    assert fingerprint({}, {}) != base
    monkeypatch.undo()
    monkeypatch.setattr(jax, "default_backend", lambda: "abacus")
    assert fingerprint({}, {}) != base


def scaled(scale, how=lambda f: f):
    """A linear network on inputs that a constant scales."""
    scale = np.asarray(scale, np.float32)
    multiply = how(lambda x: x * scale)

    def init(key, inputs):
        return {"kernel": jax.random.normal(key, (inputs.shape[-1], 3))}

    return from_functions(init, lambda p, x: multiply(x) @ p["kernel"], name="scaled")


def repeated(f):
    return lambda x: jax.lax.fori_loop(0, 2, lambda _, x: f(x), x)


def chosen(f):
    return lambda x: jax.lax.cond(x.sum() > 0, f, lambda x: x, x)


@pytest.mark.parametrize("how", [lambda f: f, jax.jit, repeated, chosen, jax.checkpoint])
def test_programs_cover_constants_of_nested_functions(how):
    base = program(scaled(np.arange(6), how), INPUTS)
    assert base == program(scaled(np.arange(6), how), INPUTS)
    assert base != program(scaled(np.arange(6) + 1, how), INPUTS)
    assert program(scaled(1.0, how), INPUTS) != program(scaled(1.0000001, how), INPUTS)


def test_programs_are_deterministic_and_follow_the_layers():
    images = np.zeros((1, 8, 8, 1), np.uint8)

    def text(mean=0.5, classes=3, augment=False):
        model = build("mlp", classes)
        return program(with_preprocessing(model, mean=(mean,), std=(1.0,), augment=augment), images)

    assert text() == text()
    assert "0x" not in text()
    assert len({text(), text(mean=0.4), text(classes=4), text(augment=True)}) == 4
