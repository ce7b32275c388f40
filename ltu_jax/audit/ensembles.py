"""What pools of networks say of single examples, and of unlearned against retrained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.runs.ensembles as pools
from ltu_jax.audit import evidence, per_example, signals
from ltu_jax.audit.evidence import Evidence
from ltu_jax.audit.measure import ATTACK_SIZE
from ltu_jax.runs.ensembles import Pool
from ltu_jax.runs.plan import Plan
from ltu_jax.training.ensembles import predict_members
from ltu_jax.types import Variables

PARTS = ("forget", "retain", "test")
PAIRED = ("first", "second", "test")  # both examples of every pair, and RMIA's population
NOISY_COPIES, NOISE = 4, 0.25  # of each example; their noise in standard deviations of the inputs
COINS = ("shadow", "shadow_unlearned", "shadow_retrain")


class Outputs(NamedTuple):
    """What the networks of a pool answer on examples, `[M, n]` each.

    Attributes:
      margin: ln p_y - ln(1 - p_y).
      noisy: the margin's mean over noisy copies of the input.
      confidence: p_y.
    """

    margin: np.ndarray
    noisy: np.ndarray
    confidence: np.ndarray


def audit_pools(
    plan: Plan, found: Mapping[str, Pool], alpha: float, on_done: Callable[[int], None]
) -> dict[str, Any]:
    """Return what pools say: `apart`, `coins`, `tests` and `pools` of the audit.

    Args:
      plan: of the deletion.
      found: the pools by kind.
      alpha: see `audit_run`.
      on_done: called with 0, 1, ... as pools are done.
    """
    outputs = {}
    for done, (kind, pool) in enumerate(found.items()):
        examples = _examples(plan, PAIRED if kind in COINS else PARTS)
        outputs[kind] = {
            part: pool_outputs(plan, pool, *labelled) for part, labelled in examples.items()
        }
        on_done(done)
    apart = _apart(outputs, alpha, plan.seed)
    coins = {kind: _coins(outputs[kind], found[kind], alpha) for kind in COINS if kind in found}
    tests = evidence.correct(_tests(plan, apart, coins))
    return {
        "pools": {
            kind: {
                "networks": len(pool.couples),
                "seconds": pool.seconds,
                "folder": pool.folder.name,
            }
            for kind, pool in found.items()
        },
        "apart": evidence.plain_bounds(apart),
        "coins": evidence.plain_bounds(coins),
        "tests": [{**test._asdict(), "bound": test.bound._asdict()} for test in tests],
    }


def pool_outputs(plan: Plan, pool: Pool, inputs: np.ndarray, labels: np.ndarray) -> Outputs:
    """Return what every network of a pool answers on labelled examples `[n, ...]`, `[n]`."""
    logits = predict_members(plan.model, pool.variables, inputs)
    rng = np.random.default_rng(plan.seed)  # the same noise for every pool
    spread = NOISE * float(np.std(plan.dataset.train.inputs))
    noisy = np.zeros((len(pool.couples), len(labels)))
    for _ in range(NOISY_COPIES):
        copies = _noisy_copy(inputs, spread, rng)
        noisy += margins(plan, pool.variables, copies, labels) / NOISY_COPIES
    return Outputs(
        margin=np.stack([signals.margin(one, labels) for one in logits]),
        noisy=noisy,
        confidence=np.stack([signals.confidence(one, labels) for one in logits]),
    )


def _noisy_copy(inputs: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    if inputs.dtype == np.int32:  # tokens: some are taken from the same place of other examples
        return np.where(rng.random(inputs.shape) < NOISE, rng.permuted(inputs, axis=0), inputs)
    copies = inputs + spread * rng.normal(size=inputs.shape)
    if inputs.dtype == np.uint8:
        copies = np.clip(np.rint(copies), 0, 255)
    return copies.astype(inputs.dtype)


def margins(plan: Plan, variables: Variables, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the margins `[M, n]` of networks with a leading axis `[M]`."""
    logits = predict_members(plan.model, variables, inputs)
    return np.stack([signals.margin(one, labels) for one in logits])


def _examples(plan: Plan, parts: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return inputs and labels of what a pool is asked about; large parts are sampled."""
    split, train, heldout = plan.split, plan.dataset.train, plan.dataset.heldout
    rng = np.random.default_rng(plan.seed)
    rows = {
        "forget": split.forget,
        "retain": np.sort(rng.permutation(split.retain)[:ATTACK_SIZE]),
        "test": np.sort(rng.permutation(split.test)[:ATTACK_SIZE]),
    }
    if parts is PAIRED:
        rows |= pools.pairs_of(plan)._asdict()
    examples = {}
    for part in parts:
        source = heldout if part == "test" else train
        examples[part] = tuple(np.asarray(array)[rows[part]] for array in source)
    return examples


def _apart(outputs: Mapping[str, Mapping[str, Outputs]], alpha: float, seed: int) -> dict[str, Any]:
    """Return how well networks of each kind are told from retrained ones.

    Under `retrain` it is one half of the retrained networks against the other: the floor.
    """
    if "retrain" not in outputs:
        return {}
    kinds = [kind for kind in ("original", "unlearned", "retrain") if kind in outputs]

    def sides(kind: str, part: str, signal: str) -> tuple[np.ndarray, np.ndarray]:
        retrained = getattr(outputs["retrain"][part], signal)
        if kind == "retrain":
            return tuple(np.array_split(retrained, 2))
        return getattr(outputs[kind][part], signal), retrained

    return {
        kind: {
            part: {
                signal: evidence.told_apart(*sides(kind, part, signal), alpha=alpha, seed=seed)
                for signal in ("margin", "noisy")
            }
            for part in PARTS
        }
        for kind in kinds
    }


def _coins(outputs: Mapping[str, Outputs], pool: Pool, alpha: float) -> dict[str, dict[str, Any]]:
    """Return what each attack on single examples finds in a pool with coins."""
    included = np.concatenate([pool.coins, ~pool.coins], axis=1)
    # The coins of `shadow_retrain` are of no network of its own: any two of them make a couple.
    couples = np.arange(len(pool.coins)) // 2

    def both(signal: str) -> np.ndarray:
        return np.concatenate([getattr(outputs[x], signal) for x in ("first", "second")], axis=1)

    def rmia(confidence: np.ndarray, *which, halved: bool) -> np.ndarray:
        return per_example.leave_out_rmia(
            confidence, *which, outputs["test"].confidence, halved=halved
        )

    attacks = {
        "u_lira": (per_example.leave_out, both("margin")),
        "rmia": (rmia, both("confidence")),
        "u_lira_noisy": (per_example.leave_out, both("noisy")),
    }
    return {
        name: evidence.coin_attack(
            *(attack(values, included, couples, halved=halved) for halved in (False, True)),
            pool.coins,
            couples,
            alpha=alpha,
        )
        for name, (attack, values) in attacks.items()
    }


def _tests(plan: Plan, apart: Mapping[str, Any], coins: Mapping[str, Any]) -> list[Evidence]:
    """Return the tests of exact unlearning that the pools allow, before any correction."""
    # Methods with membership models of their own were trained against what these look at.
    own = getattr(plan.config, "membership", ())
    shares = "features: outputs on the example itself" if own else ""
    unlearned = coins.get("shadow_unlearned", {})
    forget = apart.get("unlearned", {}).get("forget", {})
    looked = (
        ("U-LiRA", shares, unlearned.get("u_lira")),
        ("RMIA", shares, unlearned.get("rmia")),
        ("U-LiRA on noisy copies", "", unlearned.get("u_lira_noisy")),
        ("told from retrained", shares, forget.get("margin")),
        ("told from retrained by noisy copies", "", forget.get("noisy")),
    )
    return [
        Evidence(name, common, found["p_value"], f"AUC {found['auc']:.1f} %", found["bound"])
        for name, common, found in looked
        if found
    ]
