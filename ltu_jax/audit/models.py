"""Attacks on a run's own networks, and their distances: each beside Retrain's own value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import ltu_jax.data.request as requests
from ltu_jax.audit import distances, signals
from ltu_jax.audit.features import Labelled
from ltu_jax.audit.measure import ATTACK_SIZE
from ltu_jax.audit.population import population_attacks
from ltu_jax.audit.relearn import RELEARN_STEPS, relearn
from ltu_jax.runs.plan import Plan, on_device
from ltu_jax.training.supervised import predict
from ltu_jax.types import Array, TrainedModel, Variables

RELEARN_SIZE = 512  # forget examples that are learned again


def compare_networks(
    plan: Plan, networks: Mapping[str, TrainedModel], alpha: float
) -> dict[str, list[dict[str, Any]]]:
    """Return `population` and `distances`, a row for each network; the first is the original.

    Distances are to `retrain`, where the run has it: `activation` (L1 of predicted probabilities, 0
    to 2) and `js` (bits) on the forget set, `weights` (L2 of all parameters, in units of
    Retrain's). `zrf` is the likeness to an untrained network's answers, 0 to 1. `relearn` is how
    many steps on the forget set bring its loss down to the original's, None if more than
    `relearn_steps`, and `relearn_losses` the curve.
    """
    examples = _examples(plan)
    answers = {name: _answers(plan, network, examples) for name, network in networks.items()}
    original = next(iter(answers.values()))
    logits = {part: labelled.logits for part, labelled in original.items()}
    population = [
        {"model": name, **population_attacks(sets, logits, alpha=alpha, seed=plan.seed)}
        for name, sets in answers.items()
    ]
    return {"population": population, "distances": _distances(plan, networks, answers)}


def _examples(plan: Plan) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    split, train, heldout = plan.split, plan.dataset.train, plan.dataset.heldout
    members = requests.attack_members(split, seed=plan.seed, size=ATTACK_SIZE).indices
    return {
        "forget": (train.inputs[split.forget], train.labels[split.forget]),
        "members": (train.inputs[members], train.labels[members]),
        "test": (heldout.inputs[split.test], heldout.labels[split.test]),
    }


def _answers(plan: Plan, network: TrainedModel, examples: Mapping) -> dict[str, Labelled]:
    return {
        part: Labelled(np.asarray(predict(plan.model, network.variables, inputs)), labels)
        for part, (inputs, labels) in examples.items()
    }


def _distances(
    plan: Plan, networks: Mapping[str, TrainedModel], answers: Mapping[str, Mapping[str, Labelled]]
) -> list[dict[str, Any]]:
    forget = {name: _probabilities(sets["forget"].logits) for name, sets in answers.items()}
    train = plan.dataset.train
    untrained = plan.model.init(jax.random.key(plan.seed), train.inputs[:1])
    random_teacher = _probabilities(predict(plan.model, untrained, train.inputs[plan.split.forget]))
    again = on_device(train, plan.split.forget[:RELEARN_SIZE])
    curves = {name: relearn(plan.model, one.variables, again) for name, one in networks.items()}
    known = float(next(iter(curves.values()))[0])
    rows = []
    for name, network in networks.items():
        row: dict[str, Any] = {
            "model": name,
            "zrf": distances.zrf(forget[name], random_teacher),
            "relearn": distances.relearn_time(curves[name], known),
            "relearn_steps": RELEARN_STEPS,
            "relearn_losses": curves[name].tolist(),
        }
        if "retrain" in networks:
            target = networks["retrain"].variables
            row["activation"] = distances.activation_distance(forget[name], forget["retrain"])
            row["js"] = float(np.mean(distances.js_divergence(forget[name], forget["retrain"])))
            row["weights"] = distances.weight_distance(_flat(network.variables), _flat(target))[
                "total"
            ]
        rows.append(row)
    return rows


def _probabilities(logits: Array) -> np.ndarray:
    return np.exp(signals.log_softmax(logits))


def _flat(variables: Variables) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables.params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
