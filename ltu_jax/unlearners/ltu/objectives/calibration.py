r"""Matching with per-example difficulty calibration.

Matching the score distribution ignores which example gets which score. An attack with per-example
difficulty calibration exploits this. Here *reference models*, trained without the forget set,
estimate the difficulty of each example. For each membership model, a line is fitted on held-out
examples from the reference models' scores to the original's. Its value at a forget example is the
score :math:`e` that the original would give had it not been trained on the example, up to a
residual :math:`r` as held-out examples have. With the distance :math:`d` of `matching`, the loss is

.. math:: L_k = w_1\, d(s, q) + w_2\, d(s - e, q_r) + w_3\, \tfrac1B \sum_i h(s_i - e_i - r_i),

the scores' distribution, the residuals' distribution and the distance of each score to its own
target. The reference models are trained on the accessible retain set and one half of the validation
set, so that the other half is as new to them as the forget set.

References:
  Watson et al., *On the importance of difficulty calibration in membership inference attacks*,
  arXiv 2111.08440.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from ltu_jax.training.supervised import predict, recipe_for, train
from ltu_jax.types import Array, Examples, Key, Model, UnlearnData
from ltu_jax.unlearners.base import Config, Constraint, NonNegativeInt, PositiveInt, Share
from ltu_jax.unlearners.ltu.membership import (
    DIVERSE,
    Ensemble,
    MembershipSpec,
    all_scores,
    fit_ensemble,
    huber_distance,
    mid_quantiles,
    quantile_distance,
)
from ltu_jax.unlearners.ltu.objectives.base import Context, Forgetting
from ltu_jax.unlearners.ltu.objectives.reference import surrogate_rows

Weights = Annotated[
    tuple[float, float, float],
    Constraint(
        lambda x: len(x) == 3 and min(x) >= 0 and sum(x) > 0, "three of at least 0, not all 0"
    ),
]


@dataclass(frozen=True)
class CalibrationConfig(Config):
    """Options of difficulty calibration.

    Attributes:
      references: reference models for each half of the validation set. With 0 the expected score of
        every example is the mean score of the surrogate targets.
      epochs: epochs of their training.
      weights: weights of the three distances: scores' distribution, residuals' distribution, each
        score to its own target.
      rank_correlation: between an example's residual under the original and its target residual. At
        1 outliers stay outliers, at 0 target residuals are random.
    """

    references: NonNegativeInt = 1
    epochs: PositiveInt = 5
    weights: Weights = (0.25, 0.25, 0.5)
    rank_correlation: Share = 0.5


class ExampleScores(NamedTuple):
    """What the scores of single examples are compared with.

    Attributes:
      expected: `[n, K]` scores that the original would give had it not been trained on them.
      targets: `[n, K]` expected scores plus the residual of a held-out example, drawn once.
    """

    expected: jax.Array
    targets: jax.Array


class Calibration(NamedTuple):
    """Fitted membership models and the expected scores of every forget example.

    Attributes:
      ensemble: the K fitted membership models.
      examples: of the forget set.
      residuals: `[K, B]` quantiles, in ascending order, of held-out examples' residuals.
    """

    ensemble: Ensemble
    examples: ExampleScores
    residuals: jax.Array

    @property
    def effective(self) -> jax.Array:
        """Effective number of different membership models."""
        return self.ensemble.effective


def calibrated(
    specs: tuple[MembershipSpec, ...] = DIVERSE,
    support: int = 3,
    config: CalibrationConfig = CalibrationConfig(),
) -> Forgetting:
    """Return the objective that matches scores and accounts for each example's difficulty.

    Args:
      specs: the K membership models.
      support: number of models that are the support of a step.
      config: see `CalibrationConfig`.

    Example:
      >>> calibrated(config=CalibrationConfig(references=2)).num_support
      3
    """

    def init(key: Key, context: Context, size: int) -> Calibration:
        outputs = context.retain, context.validation, context.targets
        ensemble = fit_ensemble(key, specs, *outputs, quantiles=size)
        return calibrate(jax.random.fold_in(key, 1), context, specs, ensemble, config)

    def sample(key: Key, state: Calibration, rows: jax.Array) -> ExampleScores:
        del key
        return ExampleScores(state.examples.expected[rows], state.examples.targets[rows])

    def losses(state: Calibration, draw: ExampleScores, logits, labels) -> jax.Array:
        return calibrated_losses(specs, state, draw, config.weights, logits, labels)

    return Forgetting(init, sample, losses, len(specs), support)


def calibrate(
    key: Key,
    context: Context,
    specs: tuple[MembershipSpec, ...],
    ensemble: Ensemble,
    config: CalibrationConfig,
) -> Calibration:
    """Train the reference models and compute the target scores of each forget example.

    Args:
      key: PRNG key of the training and of the residuals.
      context: see `Context`; the reference models see no class that is forgotten as a whole.
      specs: the K membership models.
      ensemble: the same, fitted.
      config: see `CalibrationConfig`.
    """
    reference_key, rank_key = jax.random.split(key)
    data, kept = context.data, np.asarray(context.kept)
    original = np.asarray(predict(context.model, context.variables, data.forget.inputs))
    heldout = np.asarray(context.validation.inputs), np.asarray(context.validation.labels)
    forget = np.asarray(data.forget.labels)
    rows, labels = surrogate_rows(forget, heldout, ~kept)

    def scores(logits: Array, labels: Array) -> np.ndarray:
        return np.asarray(all_scores(specs, ensemble.heads, logits, labels))

    heldout_scores = scores(heldout[0][rows], labels)
    heldout_reference = np.zeros_like(heldout_scores)
    forget_reference = np.zeros((len(specs), len(forget)))
    if config.references:
        outputs = reference_outputs(reference_key, context.model, data, kept, config)
        heldout_reference = np.mean([scores(logits[rows], labels) for logits, _ in outputs], axis=0)
        forget_reference = np.mean([scores(logits, forget) for _, logits in outputs], axis=0)
    slope, intercept = fit_lines(heldout_reference, heldout_scores)
    residuals = heldout_scores - (slope * heldout_reference + intercept)
    expected = slope * forget_reference + intercept
    standardised = (scores(original, forget) - expected) / np.asarray(ensemble.unit)[:, None]
    drawn = draw_residuals(rank_key, standardised.mean(0), residuals, config.rank_correlation)
    return Calibration(
        ensemble=ensemble,
        examples=ExampleScores(
            expected=jnp.asarray(expected.T, jnp.float32),
            targets=jnp.asarray((expected + drawn).T, jnp.float32),
        ),
        residuals=mid_quantiles(jnp.asarray(residuals), ensemble.target.shape[1]),
    )


def reference_outputs(
    key: Key, model: Model, data: UnlearnData, kept: Array, config: CalibrationConfig
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return logits `[N, C]` of validation and `[n, C]` of forget examples, for each reference.

    Each row comes from a model that was not trained on that example. The model of either half is
    chosen at random for a forget example.
    """
    half_key, choice_key, train_key = jax.random.split(key, 3)
    labels, kept = np.asarray(data.validation.labels), np.asarray(kept)
    half = np.asarray(jax.random.permutation(half_key, len(labels))) % 2
    choice = np.asarray(jax.random.bernoulli(choice_key, shape=data.forget.labels.shape))
    recipe = replace(recipe_for(model.name), epochs=config.epochs)
    results = []
    for reference in range(config.references):
        outputs = []
        for side in (0, 1):
            seen = np.flatnonzero((half != side) & kept[labels])
            one_key = jax.random.fold_in(train_key, 2 * reference + side)
            variables, _ = train(model, _joined(data, seen), recipe, key=one_key)
            parts = data.validation, data.forget
            outputs.append([np.asarray(predict(model, variables, part.inputs)) for part in parts])
        (validation, forget), (other_validation, other_forget) = outputs
        results.append(
            (
                np.where(half[:, None] == 0, validation, other_validation),
                np.where(choice[:, None], other_forget, forget),
            )
        )
    return results


def calibrated_losses(
    specs: tuple[MembershipSpec, ...],
    calibration: Calibration,
    examples: ExampleScores,
    weights: tuple[float, float, float],
    logits: Array,
    labels: Array,
) -> jax.Array:
    """Return the loss `[K]` of every membership model on a batch, in units of its scores' spread.

    Args:
      specs: the K membership models.
      calibration: with as many quantiles as the batch has examples.
      examples: of the batch.
      weights: weights of the three distances, see `CalibrationConfig`.
      logits: `[B, C]` of the batch.
      labels: `[B]`.
    """
    ensemble = calibration.ensemble
    scores = all_scores(specs, ensemble.heads, logits, labels)
    residuals = scores - examples.expected.T
    distances = (
        quantile_distance(scores, ensemble.target, ensemble.unit),
        quantile_distance(residuals, calibration.residuals, ensemble.unit),
        huber_distance(scores, examples.targets.T, ensemble.unit),
    )
    total = sum(weight * part for weight, part in zip(weights, distances, strict=True))
    return cast(jax.Array, total / sum(weights))


def fit_lines(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and intercept `[K, 1]` of least squares from `x` to `y` (both `[K, M]`)."""
    mean_x, mean_y = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    variance = np.mean((x - mean_x) ** 2, axis=1, keepdims=True)
    covariance = np.mean((x - mean_x) * (y - mean_y), axis=1, keepdims=True)
    slope = np.where(variance > 0, covariance / np.where(variance > 0, variance, 1.0), 0.0)
    return slope, mean_y - slope * mean_x


def draw_residuals(
    key: Key, standardised: np.ndarray, residuals: np.ndarray, rank_correlation: float
) -> np.ndarray:
    """Return the residuals `[K, n]` of a random held-out example for each of n examples.

    Args:
      key: PRNG key.
      standardised: `[n]` mean standardised residuals of the examples under the original.
      residuals: `[K, M]` of held-out examples. The K of an example are dependent, so they are drawn
        together.
      rank_correlation: correlation of the normal ranks of `standardised` and of the draws.
    """
    noise = np.asarray(jax.random.normal(key, standardised.shape))
    normal = scipy.stats.norm.ppf(_ranks(standardised))
    ranks = _ranks(rank_correlation * normal + np.sqrt(1 - rank_correlation**2) * noise)
    scale = residuals.std(axis=1, keepdims=True) + 1e-6
    order = np.argsort((residuals / scale).mean(0), kind="stable")
    return residuals[:, order[(ranks * residuals.shape[1]).astype(int)]]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks divided by their number, between 0 and 1."""
    return (scipy.stats.rankdata(values, method="ordinal") - 0.5) / len(values)


def _joined(data: UnlearnData, rows: np.ndarray) -> Examples:
    """Return the accessible retain set and some validation examples."""
    return jax.tree.map(
        lambda a, b: jnp.concatenate([a, jnp.asarray(b)[rows]]), data.retain, data.validation
    )
