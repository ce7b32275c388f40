"""Population attacks on each model of a run, and its distances from the retrained model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.audit import distances, signals
from ltu_jax.audit.features import LabelledLogits
from ltu_jax.audit.measure import set_outputs
from ltu_jax.audit.population import population_attacks
from ltu_jax.audit.relearn import RELEARN_STEPS, relearn_curve
from ltu_jax.types import Array, Examples, Problem, TrainedModel, Variables

RELEARN_SIZE = 512  # forget examples that are learned again
ATTACKED = ("forget", "members", "test")  # the sets that attacks see


def compare_models(
    problem: Problem, models: Mapping[str, TrainedModel], alpha: float
) -> dict[str, list[dict[str, Any]]]:
    """Attack each model and measure its distance from `retrain`.

    Args:
      problem: the deletion.
      models: by name; `original` is required, `retrain` is the target of the distances.
      alpha: level of the intervals.

    Returns:
      `population`, see `population_attacks`, and `distances`, each with a row per model.
      `activation` (L1 distance of probabilities, 0 to 2) and `js` (bits) are measured on the forget
      set, `weights` is the L2 distance of all parameters relative to Retrain's norm; all three are
      absent without `retrain`. `zrf` compares the outputs with an untrained model's, 0 to 1.
      `relearn` is the number of steps on the forget set until the loss is the original's, None if
      more than `relearn_steps`; `relearn_losses` is the curve.
    """
    outputs = {name: labelled_sets(problem, one) for name, one in models.items()}
    untrained = labelled_sets(problem, untrained_model(problem))["forget"].logits
    compared = compare_outputs(outputs, alpha=alpha, seed=problem.seed, untrained=untrained)
    for row, extra in zip(compared["distances"], _model_distances(problem, models), strict=True):
        row |= extra
    return compared


def compare_outputs(
    outputs: Mapping[str, Mapping[str, LabelledLogits]],
    *,
    alpha: float,
    seed: int,
    untrained: Array | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Return the part of `compare_models` that needs outputs only.

    Args:
      outputs: by model, then set: `forget`, `members` and `test`.
      alpha: level of the intervals.
      seed: of the attacks.
      untrained: logits of an untrained model on the forget set; without it there is no `zrf`.
    """
    original = {part: labelled.logits for part, labelled in outputs["original"].items()}
    forget = {name: _probabilities(sets["forget"].logits) for name, sets in outputs.items()}
    return {
        "population": [
            {"model": name, **population_attacks(sets, original, alpha=alpha, seed=seed)}
            for name, sets in outputs.items()
        ],
        "distances": [
            {"model": name, **_output_distances(p, forget.get("retrain"), untrained)}
            for name, p in forget.items()
        ],
    }


def labelled_sets(problem: Problem, trained: TrainedModel) -> dict[str, LabelledLogits]:
    """Return a model's outputs on the sets that attacks see."""
    logits, labels = set_outputs(problem, trained.variables)
    return {name: LabelledLogits(logits[name], labels[name]) for name in ATTACKED}


def untrained_model(problem: Problem) -> TrainedModel:
    """Return the untrained model of ZRF."""
    inputs = problem.dataset.train.inputs[:1]
    return TrainedModel(problem.model.init(jax.random.key(problem.seed), inputs), float("nan"))


def _output_distances(
    p: np.ndarray, retrained: np.ndarray | None, untrained: Array | None
) -> dict[str, float]:
    found = {}
    if untrained is not None:
        found["zrf"] = distances.zrf(p, _probabilities(untrained))
    if retrained is not None:
        found["activation"] = distances.activation_distance(p, retrained)
        found["js"] = float(np.mean(distances.js_divergence(p, retrained)))
    return found


def _model_distances(
    problem: Problem, models: Mapping[str, TrainedModel]
) -> Iterator[dict[str, Any]]:
    """Yield what needs each model itself: relearning and the distance of the weights."""
    model, train = problem.model, problem.dataset.train
    some = problem.split.forget[:RELEARN_SIZE]
    relearned = Examples(jnp.asarray(train.inputs[some]), jnp.asarray(train.labels[some]))
    curves = {name: relearn_curve(model, one.variables, relearned) for name, one in models.items()}
    target_loss = float(curves["original"][0])
    for name, one in models.items():
        row: dict[str, Any] = {
            "relearn": distances.relearn_time(curves[name], target_loss),
            "relearn_steps": RELEARN_STEPS,
            "relearn_losses": curves[name].tolist(),
        }
        if "retrain" in models:
            by_array = distances.weight_distance(
                _arrays(one.variables), _arrays(models["retrain"].variables)
            )
            row["weights"] = by_array["total"]
        yield row


def _probabilities(logits: Array) -> np.ndarray:
    return np.exp(signals.log_softmax(logits))


def _arrays(variables: Variables) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables.params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
