"""Membership scores calibrated by example: how a network that never saw an example would score it.

To match the *distribution* of scores says nothing about which example gets which score, and an
attacker who knows how hard each example is sees that. Here reference networks, which never saw the
forget set, say how hard it is (difficulty calibration: Watson et al., arXiv 2111.08440). They are
trained on the accessible retain set and one half of the validation set, so that the other half is
as new to them as the forget set. On that half a line is fitted from their score to the original's,
for each MI model. Its value is what the original would say of a forget example had it not been
trained on it, up to a residual as held-out examples show it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from ltu_jax.errors import InputError
from ltu_jax.training.supervised import predict, recipe_for, train
from ltu_jax.types import Array, Examples, Key, Model, UnlearnData, Variables
from ltu_jax.unlearners.ltu import membership as mi
from ltu_jax.unlearners.ltu.objectives.reference import stand_in_rows


class CalibrationConfig(NamedTuple):
    """How membership scores are calibrated.

    Attributes:
      references: reference networks for each half of the validation set; 0 takes no account of the
        single example: its expected score is the mean of the stand-ins'.
      epochs: of their training.
      weights: of the distances that make up a calibrated loss: that of the scores' distribution (as
        `"match"`), that of the residuals' distribution, and that of each score to its own aim.
      coupling: correlation of ranks between an example's residual under the original and the one
        that it is to show in the end: 1 keeps who stood out, 0 draws anew.
    """

    references: int = 1
    epochs: int = 5
    weights: tuple[float, float, float] = (0.25, 0.25, 0.5)
    coupling: float = 0.5


def check_calibration(config: CalibrationConfig) -> None:
    """Raise `InputError` unless the options are in their ranges."""
    weights = config.weights
    if len(weights) != 3 or min(weights) < 0 or not sum(weights) > 0:
        raise InputError(f"calibration weights are {weights}; give three of at least 0, not all 0")
    if config.references < 0 or config.epochs < 1 or not 0 <= config.coupling <= 1:
        raise InputError(
            f"calibration is {config}; give references of at least 0, epochs of at least 1 and a "
            "coupling from 0 to 1"
        )


class Calibration(NamedTuple):
    """What is expected of every forget example, by K MI models.

    Attributes:
      expected: `[n, K]` scores that the original would give had it not been trained on them.
      aims: `[n, K]` the same plus a held-out example's residual, drawn once.
      residuals: `[K, B]` quantiles, in ascending order, of held-out examples' residuals.
    """

    expected: jax.Array
    aims: jax.Array
    residuals: jax.Array


def calibrate(
    key: Key,
    model: Model,
    variables: Variables,
    data: UnlearnData,
    specs: tuple[mi.MembershipSpec, ...],
    ensemble: mi.Ensemble,
    kept: Array,
    config: CalibrationConfig,
) -> Calibration:
    """Train the references and say what each forget example's scores should be.

    Args:
      key: of the references and of the residuals' draw.
      model: takes raw inputs.
      variables: of the original.
      data: what the method may see.
      specs: the K kinds of MI model.
      ensemble: fitted.
      kept: `[C]` booleans, the classes of which something is retained; the references see no other.
      config: see `CalibrationConfig`.
    """
    reference_key, rank_key = jax.random.split(key)
    original = [np.asarray(predict(model, variables, part.inputs)) for part in data]
    forget, _, validation = (np.asarray(part.labels) for part in data)
    rows, under = stand_in_rows(forget, (original[2], validation), ~np.asarray(kept))

    def scores(logits: Array, labels: Array) -> np.ndarray:
        return np.asarray(mi.all_scores(specs, ensemble.heads, logits, labels))

    heldout_scores = scores(original[2][rows], under)
    heldout_hints, forget_hints = np.zeros_like(heldout_scores), np.zeros((len(specs), len(forget)))
    if config.references:
        found = reference_outputs(reference_key, model, data, kept, config)
        heldout_hints, forget_hints = (
            np.mean([scores(logits[at], labels) for logits in outputs], axis=0)
            for outputs, at, labels in zip(
                zip(*found, strict=True), (rows, slice(None)), (under, forget), strict=True
            )
        )
    slope, intercept = fit_lines(heldout_hints, heldout_scores)
    residuals = heldout_scores - (slope * heldout_hints + intercept)
    expected = slope * forget_hints + intercept
    unusual = (scores(original[0], forget) - expected) / np.asarray(ensemble.unit)[:, None]
    drawn = draw_residuals(rank_key, unusual.mean(0), residuals, config.coupling)
    return Calibration(
        expected=jnp.asarray(expected.T, jnp.float32),
        aims=jnp.asarray((expected + drawn).T, jnp.float32),
        residuals=mi.mid_quantiles(jnp.asarray(residuals), ensemble.target.shape[1]),
    )


def reference_outputs(
    key: Key, model: Model, data: UnlearnData, kept: Array, config: CalibrationConfig
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return logits `[N, C]` of validation and `[n, C]` of forget examples, a pair a reference.

    Every row of a pair comes from a network that has not seen that example. Which half's network
    looks at a forget example is a coin's, as it is for a validation example.
    """
    halves_key, coins_key, train_key = jax.random.split(key, 3)
    kept = np.asarray(kept)
    sizes = len(data.validation.labels), len(data.forget.labels)
    half = np.asarray(jax.random.permutation(halves_key, sizes[0])) % 2
    coins = np.asarray(jax.random.bernoulli(coins_key, shape=(sizes[1],))).astype(int)
    recipe = recipe_for(model.name)
    recipe = type(recipe)(**{**vars(recipe), "epochs": config.epochs})
    known = kept[np.asarray(data.validation.labels)]  # no reference learns a class that goes
    found = []
    for reference in range(config.references):
        outputs = []
        for side in (0, 1):
            seen = np.flatnonzero((half != side) & known)
            examples = _joined(data.retain, data.validation, seen)
            one_key = jax.random.fold_in(train_key, 2 * reference + side)
            variables, _ = train(model, examples, recipe, key=one_key)
            outputs.append(
                [
                    np.asarray(predict(model, variables, part.inputs))
                    for part in (data.validation, data.forget)
                ]
            )
        (validation, forget), (validation_too, forget_too) = outputs
        found.append(
            (
                np.where(half[:, None] == 0, validation, validation_too),
                np.where(coins[:, None] == 0, forget, forget_too),
            )
        )
    return found


def calibrated_losses(
    specs: tuple[mi.MembershipSpec, ...],
    ensemble: mi.Ensemble,
    calibration: Calibration,
    weights: tuple[float, float, float],
    logits: Array,
    labels: Array,
    rows: Array,
) -> jax.Array:
    """Return the loss `[K]` of every MI model on an audit batch, in units of its scores' spread.

    Args:
      specs: the K kinds of MI model.
      ensemble: fitted, with as many quantiles as the batch has examples.
      calibration: see `Calibration`.
      weights: of the three distances, see `CalibrationConfig`.
      logits: `[B, C]` of the audit batch.
      labels: `[B]`.
      rows: `[B]` which forget examples they are.
    """
    scores = mi.all_scores(specs, ensemble.heads, logits, labels)
    residuals = scores - calibration.expected[rows].T
    distances = (
        mi.quantile_distance(scores, ensemble.target, ensemble.unit),
        mi.quantile_distance(residuals, calibration.residuals, ensemble.unit),
        mi.rounded_distance(scores, calibration.aims[rows].T, ensemble.unit),
    )
    total = sum(weight * part for weight, part in zip(weights, distances, strict=True))
    return total / sum(weights)


def fit_lines(hints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and intercept `[K, 1]` of least squares from `hints` to `scores` (`[K, M]`)."""
    mean, mean_score = hints.mean(1, keepdims=True), scores.mean(1, keepdims=True)
    spread = np.mean((hints - mean) ** 2, axis=1, keepdims=True)
    product = np.mean((hints - mean) * (scores - mean_score), axis=1, keepdims=True)
    slope = np.where(spread > 0, product / np.where(spread > 0, spread, 1.0), 0.0)
    return slope, mean_score - slope * mean


def draw_residuals(
    key: Key, unusual: np.ndarray, residuals: np.ndarray, coupling: float
) -> np.ndarray:
    """Return a held-out example's residuals for each of n examples, `[K, n]`.

    All K of an example come from the same held-out example, since they go together.

    Args:
      key: of the draw.
      unusual: `[n]` how far each example's scores are above what is expected of it.
      residuals: `[K, M]` of held-out examples.
      coupling: correlation of the ranks of `unusual` and of what is drawn.
    """
    noise = np.asarray(jax.random.normal(key, unusual.shape))
    normal = scipy.stats.norm.ppf(_shares(unusual))
    shares = _shares(coupling * normal + np.sqrt(1 - coupling**2) * noise)
    scale = residuals.std(axis=1, keepdims=True) + 1e-6
    order = np.argsort((residuals / scale).mean(0), kind="stable")
    return residuals[:, order[(shares * residuals.shape[1]).astype(int)]]


def _shares(values: np.ndarray) -> np.ndarray:
    """Return each value's rank as a share of their number, between 0 and 1."""
    return (scipy.stats.rankdata(values, method="ordinal") - 0.5) / len(values)


def _joined(retain: Examples, validation: Examples, rows: np.ndarray) -> Examples:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, jnp.asarray(b)[rows]]), retain, validation)
