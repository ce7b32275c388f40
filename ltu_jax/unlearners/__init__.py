"""All methods by name, behind the one interface `ltu_jax.types.Unlearner`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ltu_jax.errors import InputError
from ltu_jax.ltu.config import LTUConfig
from ltu_jax.ltu.unlearner import ltu
from ltu_jax.types import Model, UnlearnData, Unlearner


class Method(NamedTuple):
    """An unlearning method as the command line knows it.

    Attributes:
      summary: one line.
      reference: the paper it comes from.
      build: `(model, data, num_classes, config) -> Unlearner`.
      config: its default options, a frozen dataclass.
    """

    summary: str
    reference: str
    build: Callable[[Model, UnlearnData, int, LTUConfig], Unlearner]
    config: LTUConfig


def _first_order(config: LTUConfig) -> LTUConfig:
    return replace(
        config,
        random_label_inner=config.random_label_inner._replace(order=1),
        membership_inner=config.membership_inner._replace(order=1),
    )


METHODS: dict[str, Method] = {
    "ltu": Method(
        "meta-gradients over random labels and membership models, harmonised; second order",
        "Huang, Foo & Liu 2024, arXiv 2407.10494",
        ltu,
        LTUConfig(),
    ),
    "ltu_first_order": Method(
        "LTU without the Hessian: the adapted parameters are taken as given",
        "Huang, Foo & Liu 2024, arXiv 2407.10494",
        ltu,
        _first_order(LTUConfig()),
    ),
}


def find(name: str) -> Method:
    """Return the method of that name.

    Raises:
      InputError: there is none.
    """
    if name not in METHODS:
        raise InputError(f"--method {name}: no such method; choose one of {', '.join(METHODS)}")
    return METHODS[name]
