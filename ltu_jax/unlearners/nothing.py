"""Nothing: the original network as it is, the row that every other row starts from."""

from __future__ import annotations

from dataclasses import dataclass

from ltu_jax.types import DataSpec, Invariants, Key, Model, UnlearnData, Unlearner, Variables
from ltu_jax.unlearners.base import Method, one_shot


@dataclass(frozen=True)
class NothingConfig:
    """Nothing to choose."""


def nothing(
    model: Model,
    spec: DataSpec,
    config: NothingConfig = NothingConfig(),
) -> Unlearner:
    """Build the method that returns the original to the bit; it reads no argument and no data."""
    del model, spec, config

    def prepare(key: Key, variables: Variables, data: UnlearnData) -> Variables:
        del key, data
        return variables

    return one_shot(prepare, Invariants(changes=False, preserves_model_state=True))


METHOD = Method(
    name="nothing",
    summary="leave the original as it is",
    reference="the floor of forgetting",
    build=nothing,
    config=NothingConfig(),
)
