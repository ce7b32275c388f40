"""Per-example membership and model-level distinguishing attacks on ensembles of models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ltu_jax.audit import evidence, signals
from ltu_jax.audit.evidence import Evidence
from ltu_jax.audit.lira import leave_one_out_lira
from ltu_jax.audit.measure import ATTACK_SIZE
from ltu_jax.audit.rmia import leave_one_out_rmia
from ltu_jax.data.inclusion import CanaryPairs
from ltu_jax.training.ensembles import predict_members
from ltu_jax.types import Array, Examples, Model, Problem, Split, Variables

PARTS = ("forget", "retain", "test")
SHADOW = ("shadow", "shadow_unlearned", "shadow_retrain")  # ensembles with inclusion bits
NOISY_COPIES, NOISE = 4, 0.25  # copies of each example; noise in standard deviations of the inputs


class Outputs(NamedTuple):
    """Signals of an ensemble's M models on n examples, `[M, n]` each.

    Attributes:
      margin: ln p_y - ln(1 - p_y).
      noisy: mean margin over noisy copies of the input; None if unknown.
      confidence: p_y.
    """

    margin: np.ndarray
    noisy: np.ndarray | None
    confidence: np.ndarray


def part_rows(split: Split, seed: int) -> dict[str, np.ndarray]:
    """Return rows of forget, retain and test; at most 2,000 of the latter two, drawn by seed."""
    rng = np.random.default_rng(seed)
    retain, test = (np.sort(rng.permutation(x)[:ATTACK_SIZE]) for x in (split.retain, split.test))
    return {"forget": split.forget, "retain": retain, "test": test}


def part_examples(problem: Problem) -> dict[str, Examples]:
    """Return the examples of `part_rows`."""
    train, heldout = problem.dataset.train, problem.dataset.heldout
    rows = part_rows(problem.split, problem.seed)
    return {name: _take(heldout if name == "test" else train, some) for name, some in rows.items()}


def paired_examples(problem: Problem, pairs: CanaryPairs) -> dict[str, Examples]:
    """Return both examples of every matched pair, `first` and `second`, and the `test` examples."""
    train = problem.dataset.train
    return {
        "first": _take(train, pairs.first),
        "second": _take(train, pairs.second),
        "test": part_examples(problem)["test"],
    }


def ensemble_outputs(
    model: Model, variables: Variables, examples: Examples, *, noise_std: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits `[M, n, C]` of an ensemble, and mean margins `[M, n]` on noisy copies.

    Args:
      model: pure functions that all models share.
      variables: with a leading axis `[M]`.
      examples: `[n, ...]`.
      noise_std: standard deviation of the noise on copies, in units of the inputs; of tokens a
        quarter is exchanged between examples instead.
      seed: of the noise; ensembles that are compared need the same one.
    """
    inputs, labels = examples
    logits = predict_members(model, variables, inputs)
    rng = np.random.default_rng(seed)
    noisy = np.zeros((len(logits), len(labels)))
    for _ in range(NOISY_COPIES):
        copies = examples._replace(inputs=_noisy_copy(np.asarray(inputs), noise_std, rng))
        noisy += ensemble_margins(model, variables, copies) / NOISY_COPIES
    return logits, noisy


def ensemble_signals(
    logits: Iterable[Array], labels: Array, noisy: np.ndarray | None = None
) -> Outputs:
    """Return the signals that `attack_ensembles` takes.

    Args:
      logits: `[n, C]` of each model.
      labels: `[n]`.
      noisy: see `ensemble_outputs`; None if unknown.
    """
    both = [(signals.margin(one, labels), signals.confidence(one, labels)) for one in logits]
    margin, confidence = map(np.stack, zip(*both, strict=True))
    return Outputs(margin, noisy, confidence)


def ensemble_margins(model: Model, variables: Variables, examples: Examples) -> np.ndarray:
    """Return the margins `[M, n]` of models whose variables have a leading axis `[M]`."""
    logits = predict_members(model, variables, examples.inputs)
    return np.stack([signals.margin(one, examples.labels) for one in logits])


def attack_ensembles(
    outputs: Mapping[str, Mapping[str, Outputs]],
    inclusion: Mapping[str, np.ndarray],
    *,
    alpha: float,
    seed: int,
    shares: str = "",
) -> dict[str, Any]:
    """Test exact unlearning on the outputs of ensembles.

    Args:
      outputs: by ensemble type, then part: `part_examples` of the types `original`, `unlearned` and
        `retrain`, `paired_examples` of the `SHADOW` types.
      inclusion: by `SHADOW` type, booleans `[M, m]`: True where a model was trained on the first
        example of a pair, else it was trained on the second. Models 2k and 2k + 1 are opposite.
      alpha: level of all tests together.
      seed: of the split into fitting and evaluation halves.
      shares: see `Evidence.shares`, for the attacks on the examples themselves.

    Returns:
      `distinguishing` (by ensemble type, then part, then signal), `per_example` (by ensemble
      type, then attack) and `tests`, see `Evidence`.
    """
    distinguishing = _distinguish(outputs, alpha, seed)
    membership = {
        name: _membership(outputs[name], inclusion[name], alpha)
        for name in SHADOW
        if name in inclusion
    }
    tests = evidence.correct(_tests(distinguishing, membership, shares))
    return {
        "distinguishing": evidence.plain_bounds(distinguishing),
        "per_example": evidence.plain_bounds(membership),
        "tests": [{**test._asdict(), "bound": test.bound._asdict()} for test in tests],
    }


def _take(examples: Examples, rows: np.ndarray) -> Examples:
    return Examples(*(np.asarray(array)[rows] for array in examples))


def _noisy_copy(inputs: np.ndarray, noise_std: float, rng: np.random.Generator) -> np.ndarray:
    if inputs.dtype == np.int32:  # tokens: some are taken from the same position of other examples
        return np.where(rng.random(inputs.shape) < NOISE, rng.permuted(inputs, axis=0), inputs)
    copies = inputs + noise_std * rng.normal(size=inputs.shape)
    if inputs.dtype == np.uint8:
        copies = np.clip(np.rint(copies), 0, 255)
    return copies.astype(inputs.dtype)


def _distinguish(
    outputs: Mapping[str, Mapping[str, Outputs]], alpha: float, seed: int
) -> dict[str, Any]:
    """Distinguish each ensemble from the retrained one; `retrain` compares its two halves."""
    if "retrain" not in outputs:
        return {}

    def sides(name: str, part: str, signal: str) -> tuple[np.ndarray, np.ndarray]:
        retrained = getattr(outputs["retrain"][part], signal)
        if name == "retrain":
            first, second = np.array_split(retrained, 2)
            return first, second
        return getattr(outputs[name][part], signal), retrained

    return {
        name: {
            part: {
                signal: evidence.distinguish(*sides(name, part, signal), alpha=alpha, seed=seed)
                for signal in _known(outputs, "margin", "noisy")
            }
            for part in PARTS
        }
        for name in ("original", "unlearned", "retrain")
        if name in outputs
    }


def _membership(
    outputs: Mapping[str, Outputs], inclusion: np.ndarray, alpha: float
) -> dict[str, dict[str, Any]]:
    """Attack single examples: which of each pair was a model trained on?"""
    included = np.concatenate([inclusion, ~inclusion], axis=1)
    # Models of `shadow_retrain` saw neither example; any two of them may count as opposite.
    model_pairs = np.arange(len(inclusion)) // 2

    def both(signal: str) -> np.ndarray:
        return np.concatenate([getattr(outputs[x], signal) for x in ("first", "second")], axis=1)

    def scores(name: str, halved: bool) -> np.ndarray:
        if name == "rmia":
            p, population = both("confidence"), outputs["test"].confidence
            return leave_one_out_rmia(p, included, model_pairs, population, halved=halved)
        phi = both("noisy" if name == "u_lira_noisy" else "margin")
        return leave_one_out_lira(phi, included, model_pairs, halved=halved)

    return {
        name: evidence.attack_membership(
            scores(name, False), scores(name, True), inclusion, model_pairs, alpha=alpha
        )
        for name in ("u_lira", "rmia", "u_lira_noisy")
        if name != "u_lira_noisy" or _known({"": outputs}, "noisy")
    }


def _known(outputs: Mapping[str, Mapping[str, Outputs]], *names: str) -> list[str]:
    """Return the signals that all ensembles have."""
    every = [one for parts in outputs.values() for one in parts.values()]
    return [name for name in names if all(getattr(one, name) is not None for one in every)]


def _tests(
    distinguishing: Mapping[str, Any], membership: Mapping[str, Any], shares: str
) -> list[Evidence]:
    """Return the tests of exact unlearning that the ensembles allow, before any correction."""
    unlearned = membership.get("shadow_unlearned", {})
    forget = distinguishing.get("unlearned", {}).get("forget", {})
    attacks = (
        ("U-LiRA", shares, unlearned.get("u_lira")),
        ("RMIA", shares, unlearned.get("rmia")),
        ("U-LiRA on noisy copies", "", unlearned.get("u_lira_noisy")),
        ("distinguishing attack", shares, forget.get("margin")),
        ("distinguishing attack on noisy copies", "", forget.get("noisy")),
    )
    return [
        Evidence(name, common, found["p_value"], f"AUC {found['auc']:.1f} %", found["bound"])
        for name, common, found in attacks
        if found
    ]
