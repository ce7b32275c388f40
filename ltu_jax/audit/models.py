"""Population attacks on each model of a run, and its distances from the retrained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ltu_jax.audit import distances, signals
from ltu_jax.audit.features import LabelledLogits
from ltu_jax.audit.measure import ATTACK_SIZE
from ltu_jax.audit.population import population_attacks
from ltu_jax.audit.relearn import RELEARN_STEPS, relearn_curve
from ltu_jax.data.request import attack_members
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, Examples, Problem, TrainedModel, Variables

RELEARN_SIZE = 512  # forget examples that are learned again


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
    examples = _examples(problem)
    outputs = {
        name: {
            part: LabelledLogits(np.asarray(predict(problem.model, one.variables, inputs)), labels)
            for part, (inputs, labels) in examples.items()
        }
        for name, one in models.items()
    }
    original = {part: labelled.logits for part, labelled in outputs["original"].items()}
    population = [
        {"model": name, **population_attacks(sets, original, alpha=alpha, seed=problem.seed)}
        for name, sets in outputs.items()
    ]
    forget = {name: _probabilities(sets["forget"].logits) for name, sets in outputs.items()}
    return {"population": population, "distances": _distances(problem, models, forget)}


def _examples(problem: Problem) -> dict[str, tuple[Array, Array]]:
    split, train, heldout = problem.split, problem.dataset.train, problem.dataset.heldout
    members = attack_members(split, seed=problem.seed, size=ATTACK_SIZE).indices
    return {
        "forget": (train.inputs[split.forget], train.labels[split.forget]),
        "members": (train.inputs[members], train.labels[members]),
        "test": (heldout.inputs[split.test], heldout.labels[split.test]),
    }


def _distances(
    problem: Problem, models: Mapping[str, TrainedModel], forget: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return the distances of each model; `forget` holds its probabilities on the forget set."""
    model, train, rows = problem.model, problem.dataset.train, problem.split.forget
    untrained = model.init(jax.random.key(problem.seed), train.inputs[:1])
    random_teacher = _probabilities(predict(model, untrained, train.inputs[rows]))
    some = rows[:RELEARN_SIZE]
    relearned = Examples(jnp.asarray(train.inputs[some]), jnp.asarray(train.labels[some]))
    curves = {name: relearn_curve(model, one.variables, relearned) for name, one in models.items()}
    target_loss = float(curves["original"][0])
    results = []
    for name, one in models.items():
        row: dict[str, Any] = {
            "model": name,
            "zrf": distances.zrf(forget[name], random_teacher),
            "relearn": distances.relearn_time(curves[name], target_loss),
            "relearn_steps": RELEARN_STEPS,
            "relearn_losses": curves[name].tolist(),
        }
        if "retrain" in models:
            by_array = distances.weight_distance(
                _arrays(one.variables), _arrays(models["retrain"].variables)
            )
            row["activation"] = distances.activation_distance(forget[name], forget["retrain"])
            row["js"] = float(np.mean(distances.js_divergence(forget[name], forget["retrain"])))
            row["weights"] = by_array["total"]
        results.append(row)
    return results


def _probabilities(logits: Array) -> np.ndarray:
    return np.exp(signals.log_softmax(logits))


def _arrays(variables: Variables) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables.params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
