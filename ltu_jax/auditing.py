"""A finished run and its pools in, an audit out that a sceptic can run again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ltu_jax.pools as pools
import ltu_jax.request as requests
import ltu_jax.saved as saved
from ltu_jax.audit import evidence, per_example, signals
from ltu_jax.audit.evidence import Evidence
from ltu_jax.audit.feature_attacks import Labelled
from ltu_jax.audit.population import population_attacks
from ltu_jax.errors import InputError
from ltu_jax.evaluate import ATTACK_SIZE
from ltu_jax.plan import Plan
from ltu_jax.pools import Pool
from ltu_jax.progress import Progress
from ltu_jax.report import write as report
from ltu_jax.report.content import plain
from ltu_jax.report.read import read_content
from ltu_jax.training.pool import predict_members
from ltu_jax.training.supervised import predict
from ltu_jax.types import Dataset, Model
from ltu_jax.unlearners.base import Method

PARTS = ("forget", "retain", "test")
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


def audit_run(
    folder: str | os.PathLike,
    *,
    pools_in: str | os.PathLike | None = None,
    alpha: float = 0.05,
    data: Dataset | None = None,
    model: Model | None = None,
    method: Method | None = None,
    command: str = "ltu_jax.audit_run(...)",
    quiet: bool = False,
) -> dict[str, Any]:
    """Audit a finished run and add what is found to its report.

    Args:
      folder: of the run.
      pools_in: folder in which pools are kept, or one of them; None makes no per-example audit.
      alpha: chance of a false alarm, shared among all tests that count.
      data: the data set, where the run was given one made in Python; so for the next two.
      model: the network.
      method: the method.
      command: what the report names as the way to make it again.
      quiet: show no progress.

    Returns:
      What `report.json` holds under `audit`: `population` (a row for each network), `apart` (by
      part of the data), `coins` (by pool, then attack), `tests` and `pools`.

    Raises:
      InputError: the folder holds no finished run, or there are no pools that belong to it.
    """
    folder = Path(folder)
    if not 0 < alpha < 1:
        raise InputError(f"--alpha {alpha}: give a level between 0 and 1, such as 0.05")
    plan = saved.load_plan(folder, data=data, model=model, method=method)
    content = read_content(folder)
    found = {} if pools_in is None else find_pools(plan, Path(pools_in))
    with Progress(None, quiet=quiet) as progress:
        on_info = progress.phase("audit", 1 + len(found))
        result: dict[str, Any] = {
            "alpha": alpha,
            "command": command,
            "population": _population(plan, saved.load_networks(folder, plan), alpha),
        }
        on_info(0, {})
        result |= audit_pools(plan, found, alpha, lambda done: on_info(done + 1, {}))
    report.write(content._replace(audit=plain(result)), folder)
    report.write_json(folder / "audit.json", plain(result))
    return plain(result)


def find_pools(plan: Plan, folder: Path) -> dict[str, Pool]:
    """Return the largest pool of every kind that belongs to the plan, by kind.

    Raises:
      InputError: there is none that an audit could compare with another one.
    """
    folder = folder.parent if (folder / "about.json").exists() else folder
    found = {}
    for kind in pools.KINDS:
        sizes = sorted({int(path.name.split("-")[1]) for path in folder.glob(f"{kind}-*-*")})
        for size in reversed(sizes):
            entry = pools.pool_folder(plan, kind, size, folder)
            if (entry / "about.json").exists():
                found[kind] = pools.read_pool(plan, kind, size, folder)
                break
    if not {"retrain", "unlearned"} <= found.keys() and "shadow_unlearned" not in found:
        raise InputError(
            f"--pool {folder}: holds no pools of this run (found {', '.join(found) or 'none'}); "
            f"make them with ltu pool --run RUN --pools {folder}"
        )
    return found


def audit_pools(plan: Plan, found: Mapping[str, Pool], alpha: float, on_done) -> dict[str, Any]:
    """Return what pools say: `apart`, `coins`, `tests` and `pools` of the audit."""
    examples = _examples(plan)
    outputs = {}
    for done, (kind, pool) in enumerate(found.items()):
        outputs[kind] = {
            part: pool_outputs(plan, pool, *labelled) for part, labelled in examples.items()
        }
        on_done(done)
    apart = _apart(outputs, alpha, plan.seed)
    coins = {
        kind: _coins(outputs[kind], found[kind], alpha, plan.seed)
        for kind in COINS
        if kind in found
    }
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
        "apart": apart,
        "coins": coins,
        "tests": [{**test._asdict(), "bound": test.bound._asdict()} for test in tests],
    }


def pool_outputs(plan: Plan, pool: Pool, inputs: np.ndarray, labels: np.ndarray) -> Outputs:
    """Return what every network of a pool answers on labelled examples `[n, ...]`, `[n]`."""
    margin, confidence = [], []
    noisy = np.zeros((len(pool.couples), len(labels)))
    logits = predict_members(plan.model, pool.variables, inputs)
    for one in logits:
        margin.append(signals.margin(one, labels))
        confidence.append(signals.confidence(one, labels))
    rng = np.random.default_rng(plan.seed)  # the same noise for every pool
    spread = NOISE * float(np.std(plan.dataset.train.inputs))
    for _ in range(NOISY_COPIES):
        copies = inputs + spread * rng.normal(size=inputs.shape)
        if inputs.dtype == np.uint8:
            copies = np.clip(np.rint(copies), 0, 255)
        logits = predict_members(plan.model, pool.variables, copies.astype(inputs.dtype))
        noisy += np.stack([signals.margin(one, labels) for one in logits]) / NOISY_COPIES
    return Outputs(np.stack(margin), noisy, np.stack(confidence))


def _population(plan: Plan, networks: Mapping[str, Any], alpha: float) -> list[dict[str, Any]]:
    """Return all population attacks on the networks of the run itself, one row for each."""
    split, train, heldout = plan.split, plan.dataset.train, plan.dataset.heldout
    members = requests.attack_members(split, seed=plan.seed, size=ATTACK_SIZE).indices
    examples = {
        "forget": (train.inputs[split.forget], train.labels[split.forget]),
        "members": (train.inputs[members], train.labels[members]),
        "test": (heldout.inputs[split.test], heldout.labels[split.test]),
    }
    rows, original = [], {}
    for name, network in networks.items():
        sets = {
            part: Labelled(np.asarray(predict(plan.model, network.variables, inputs)), labels)
            for part, (inputs, labels) in examples.items()
        }
        original = original or {part: labelled.logits for part, labelled in sets.items()}
        found = population_attacks(sets, original, alpha=alpha, seed=plan.seed)
        rows.append({"model": name, **found})
    return rows


def _examples(plan: Plan) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return inputs and labels of what pools are asked about; large parts are sampled."""
    split, train, heldout = plan.split, plan.dataset.train, plan.dataset.heldout
    rng = np.random.default_rng(plan.seed)
    rows = {
        "forget": (train, split.forget),
        "retain": (train, np.sort(rng.permutation(split.retain)[:ATTACK_SIZE])),
        "test": (heldout, np.sort(rng.permutation(split.test)[:ATTACK_SIZE])),
    }
    if _can_toss(plan):
        pairs = pools.pairs_of(plan)
        rows |= {"first": (train, pairs.first), "second": (train, pairs.second)}
    return {
        name: (np.asarray(part.inputs)[chosen], np.asarray(part.labels)[chosen])
        for name, (part, chosen) in rows.items()
    }


def _can_toss(plan: Plan) -> bool:
    try:
        pools.pairs_of(plan)
    except InputError:
        return False
    return True


def _apart(outputs: Mapping[str, Mapping[str, Outputs]], alpha: float, seed: int) -> dict[str, Any]:
    """Return how networks are told from retrained ones: of the method, and of the original."""
    if "retrain" not in outputs:
        return {}
    return {
        kind: {
            part: {
                signal: evidence.told_apart(
                    getattr(outputs[kind][part], signal),
                    getattr(outputs["retrain"][part], signal),
                    alpha=alpha,
                    seed=seed,
                )
                for signal in ("margin", "noisy")
            }
            for part in PARTS
        }
        for kind in ("original", "unlearned")
        if kind in outputs
    }


def _coins(
    outputs: Mapping[str, Outputs], pool: Pool, alpha: float, seed: int
) -> dict[str, dict[str, Any]]:
    """Return what each attack on single examples finds in a pool with coins."""
    included = np.concatenate([pool.coins, ~pool.coins], axis=1)

    def both(signal: str) -> np.ndarray:
        return np.concatenate([getattr(outputs[x], signal) for x in ("first", "second")], axis=1)

    scores = {
        "u_lira": per_example.leave_out(both("margin"), included, pool.couples),
        "rmia": per_example.leave_out_rmia(
            both("confidence"), included, pool.couples, outputs["test"].confidence
        ),
        "u_lira_noisy": per_example.leave_out(both("noisy"), included, pool.couples),
    }
    return {
        name: evidence.coin_attack(
            *np.split(score, 2, axis=1), pool.coins, pool.couples, alpha=alpha, seed=seed
        )
        for name, score in scores.items()
    }


def _tests(plan: Plan, apart: Mapping[str, Any], coins: Mapping[str, Any]) -> list[Evidence]:
    """Return the tests of exact unlearning that the pools allow, before any correction."""
    # Methods with membership models of their own were trained against what these look at.
    own = getattr(plan.config, "membership", ())
    shares = "features: outputs on the example itself" if own else ""
    tests = []
    for name, title, common in (
        ("u_lira", "U-LiRA", shares),
        ("rmia", "RMIA", shares),
        ("u_lira_noisy", "U-LiRA on noisy copies", ""),
    ):
        if "shadow_unlearned" in coins:
            found = coins["shadow_unlearned"][name]
            tests.append(
                Evidence(
                    name=title,
                    shares=common,
                    p_value=found["p_value"],
                    finding=f"AUC {found['auc']:.1f} %",
                    bound=found["seen_by_all"],
                )
            )
    for signal, title, common in (
        ("margin", "told from retrained", shares),
        ("noisy", "told from retrained by noisy copies", ""),
    ):
        if "unlearned" in apart:
            found = apart["unlearned"]["forget"][signal]
            tests.append(
                Evidence(
                    name=title,
                    shares=common,
                    p_value=found["p_value"],
                    finding=f"AUC {found['auc']:.1f} %",
                    bound=found["bound"],
                )
            )
    return tests
