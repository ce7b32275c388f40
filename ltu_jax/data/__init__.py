"""Data sets, deletion requests, and the splits that follow from them."""

from ltu_jax.data.arrays import from_arrays, take_train, validate
from ltu_jax.data.history import DeletionHistory, split_remaining
from ltu_jax.data.request import (
    AttackMembers,
    Request,
    attack_members,
    by_class,
    by_fraction,
    by_group,
    by_ids,
    describe,
    load_split,
    resolve,
    save_split,
    split,
)
from ltu_jax.data.scenarios import SCENARIOS, Scenario
from ltu_jax.data.sources import load

__all__ = [
    "SCENARIOS",
    "AttackMembers",
    "DeletionHistory",
    "Request",
    "Scenario",
    "attack_members",
    "by_class",
    "by_fraction",
    "by_group",
    "by_ids",
    "describe",
    "from_arrays",
    "load",
    "load_split",
    "resolve",
    "save_split",
    "split",
    "split_remaining",
    "take_train",
    "validate",
]
