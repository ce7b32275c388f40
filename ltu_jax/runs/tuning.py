"""Choice of a method's options without a retrained model (`ltu tune`).

Every trial runs the method on what it may see, without a part that is held back: a tenth of the
accessible retain set and a third of the validation set. Three numbers are measured on these, in
percentage points:

* mismatch: Wasserstein-1 distance between the confidences in the true class on the forget set and
  on held-back validation examples of the same classes;
* the validation accuracy lost against the original model;
* the accuracy lost on the held-back tenth of the retain set.

The score of a trial is (2 mismatch + both losses) / 4; lower is better. It estimates the average
gap to Retrain, which consists of two metrics of forgetting (UA, MIA) and two of utility (TA, RA).

For a distinct subpopulation (`ltu_jax.unlearners.ltu.objectives.reference`), a reference model is
trained on what a trial may see of the retain set. Its confidences replace those of the held-back
examples, and the accuracy counts only where it agrees with the original.

Neither Retrain nor the test set nor the report's attacks are used, unless the oracle is requested,
which compares with Retrain.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.stats.qmc

import ltu_jax.unlearners as unlearners
from ltu_jax.audit import signals, summary
from ltu_jax.errors import DivergedError, InputError, InvariantError
from ltu_jax.runs.models import unlearn_model
from ltu_jax.runs.plan import Plan, visible_data, with_method
from ltu_jax.runs.spec import Rule
from ltu_jax.training.supervised import predict
from ltu_jax.types import Examples, Model, TrainedModel, UnlearnData, Variables
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.ltu import make_context
from ltu_jax.unlearners.sampling import take

Oracle = Callable[[TrainedModel], float]
DEFAULT_TRIALS = 8
PROBE_PARTS, VALIDATION_PARTS = 10, 3  # one of so many parts is held back
_REFERENCE_STREAM = 2**20  # of the seed; models use the numbers from 0 on


class HeldBack(NamedTuple):
    """Examples that no update of a trial sees.

    `reference` has logits `[n, C]` of a reference model on the forget set, or None.
    """

    probe: Examples
    validation: Examples
    reference: np.ndarray | None = None


class Score(NamedTuple):
    """Score of a trial in percentage points and its parts, see the module; lower is better."""

    total: float
    mismatch: float
    validation_drop: float
    probe_drop: float


class Trial(NamedTuple):
    """One run with one choice of options.

    Attributes:
      options: those that differ from the method's defaults.
      score: None if the run failed.
      gap: average gap to Retrain; None without the oracle.
      seconds: wall time of the run.
      failure: message of the error, if the run failed.
    """

    options: Mapping[str, Any]
    score: Score | None
    gap: float | None
    seconds: float
    failure: str | None = None


class Selection(NamedTuple):
    """All trials of a method and the chosen one.

    Attributes:
      method: method.
      rule: `oracle_free` or `oracle`.
      trials: trials in the order in which they ran.
      chosen: index of the chosen trial.
    """

    method: Method
    rule: Rule
    trials: list[Trial]
    chosen: int

    @property
    def options(self) -> Mapping[str, Any]:
        """The chosen options."""
        return self.trials[self.chosen].options

    def describe(self) -> dict[str, Any]:
        """Return search space, trials, scores and choice as plain JSON values."""
        space = {
            name: {type(values).__name__: list(getattr(values, "options", values))}
            for name, values in self.method.space.items()
        }
        trials = [
            {**trial._asdict(), "score": trial.score and trial.score._asdict()}
            for trial in self.trials
        ]
        about = {"method": self.method.name, "rule": self.rule, "space": space, "trials": trials}
        return {**about, "chosen": self.chosen, "options": dict(self.options)}


def outcome(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choice of `Selection.describe` and its score against that of the defaults.

    Returns:
      `trial` (from 1), `trials` and `failed` as numbers; `options`; `score` and `default`, of which
      a lower one is better; `default` is None if the trial with the defaults failed.
    """
    trials = described["trials"]
    scores = [None if trial["score"] is None else trial["score"]["total"] for trial in trials]
    if described["rule"] == "oracle":
        scores = [trial["gap"] for trial in trials]
    return {
        "trial": described["chosen"] + 1,
        "trials": len(trials),
        "failed": sum(trial["failure"] is not None for trial in trials),
        "options": dict(described["options"]),
        "score": scores[described["chosen"]],
        "default": scores[0],
    }


def read(method: Method, described: Mapping[str, Any]) -> Selection:
    """Return the selection that `Selection.describe` returned as `described`."""
    trials = [
        Trial(**{**trial, "score": trial["score"] and Score(**trial["score"])})
        for trial in described["trials"]
    ]
    return Selection(method, described["rule"], trials, described["chosen"])


def select(
    plan: Plan,
    original: Variables,
    *,
    trials: int = DEFAULT_TRIALS,
    oracle: Oracle | None = None,
    on_trial: Callable[[int, Trial], None] | None = None,
) -> Selection:
    """Run a method with several options and choose the best.

    Args:
      plan: deletion, with its method.
      original: model to unlearn from.
      trials: number of trials; a method without a search space gets one.
      oracle: `model -> average gap to Retrain`; None chooses without it.
      on_trial: called with the number of a trial and the trial after each of them.

    Returns:
      See `Selection`. Run the chosen options once more, on everything that the method may see.

    Raises:
      InputError: there is too little data to hold a part back.
      DivergedError: every trial failed.
    """
    method = plan.method
    data, held_back = hold_back(visible_data(plan.dataset, plan.split), seed=plan.seed)
    held_back = with_reference(plan.model, original, data, held_back, seed=plan.seed)
    before = _accuracies(plan.model, original, data, held_back)
    done = []
    for options in draw_options(method, trials, seed=plan.seed):
        trial = _try(plan, options, original, data, held_back, before, oracle)
        done.append(trial)
        if on_trial is not None:
            on_trial(len(done) - 1, trial)
    costs = [
        np.inf if trial.score is None else trial.score.total if oracle is None else trial.gap
        for trial in done
    ]
    if not np.isfinite(min(costs)):
        raise DivergedError(f"all {len(done)} trials of {method.name} failed: {done[0].failure}")
    rule = "oracle_free" if oracle is None else "oracle"
    return Selection(method, rule, done, int(np.argmin(costs)))


def draw_options(method: Method, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Return the options of `count` trials: the defaults first, then draws from the search space.

    The draws are a Latin hypercube: of n draws, each option takes one value from each n-th of its
    range. They depend on the seed and the method's name alone.
    """
    if not method.space or count == 1:
        return [{}]
    rng = np.random.default_rng([seed, zlib.crc32(method.name.encode())])
    shares = scipy.stats.qmc.LatinHypercube(len(method.space), rng=rng).random(count - 1)
    draws = [
        {name: how.at(share) for (name, how), share in zip(method.space.items(), row, strict=True)}
        for row in shares.tolist()
    ]
    return [{}, *draws]


def hold_back(data: UnlearnData, *, seed: int) -> tuple[UnlearnData, HeldBack]:
    """Return the data that a trial may see, and the data held back from it.

    Raises:
      InputError: the accessible retain set or the validation set is too small to divide.
    """
    rng = np.random.default_rng(seed)
    retain, probe = _divide(rng, data.retain, PROBE_PARTS, "retain_fraction", "accessible")
    validation, held = _divide(rng, data.validation, VALIDATION_PARTS, "data", "validation")
    return data._replace(retain=retain, validation=validation), HeldBack(probe, held)


def with_reference(
    model: Model, original: Variables, data: UnlearnData, held_back: HeldBack, *, seed: int
) -> HeldBack:
    """Return `held_back` with a reference, without the validation examples on which it disagrees.

    Nothing changes unless the forget set is a distinct subpopulation. A class that is forgotten as
    a whole is compared with examples of the other classes.
    """
    parts = UnlearnData(data.forget, data.retain, held_back.validation)
    key = jax.random.fold_in(jax.random.key(seed), _REFERENCE_STREAM)
    context = make_context(key, model, original, parts, "auto")
    if context.reference is None:
        return held_back
    agreed = context.reference.agrees(context.validation.inputs)
    rows = np.flatnonzero(agreed) if agreed.any() else np.arange(len(agreed))
    validation = take(held_back.validation, jnp.asarray(rows))
    return HeldBack(held_back.probe, validation, context.reference.forget)


def score_model(
    model: Model,
    variables: Variables,
    data: UnlearnData,
    held_back: HeldBack,
    before: tuple[float, float],
) -> Score:
    """Score an unlearned model; `before` is the original's accuracy on validation set and probe."""
    forget = np.asarray(predict(model, variables, data.forget.inputs))
    heldout = np.asarray(predict(model, variables, held_back.validation.inputs))
    labels = np.asarray(data.forget.labels)
    kept = np.isin(np.arange(forget.shape[1]), np.asarray(data.retain.labels))
    nonmembers, weights = matched_confidence(
        labels, heldout, np.asarray(held_back.validation.labels), kept
    )
    if held_back.reference is not None:
        nonmembers, weights = signals.confidence(held_back.reference, labels), None
    mismatch = 100.0 * scipy.stats.wasserstein_distance(
        signals.confidence(forget, labels), nonmembers, v_weights=weights
    )
    after = _accuracies(model, variables, data, held_back)
    drops = [max(0.0, was - now) for was, now in zip(before, after, strict=True)]
    return Score(float(2 * mismatch + sum(drops)) / 4, float(mismatch), *drops)


def matched_confidence(
    labels: np.ndarray, heldout: np.ndarray, heldout_labels: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences of non-members, with weights that match the forget set's class shares.

    The non-members of a class are its held-out examples. For a class of which nothing is retained,
    they are the examples of the other classes under the forgotten label, as a retrained model does
    not know the class. For a class without held-out examples, they are those of the other classes
    under their own labels.

    Args:
      labels: `[n]` of the forget set.
      heldout: `[N, C]` logits of held-out examples.
      heldout_labels: `[N]`.
      kept: `[C]` booleans, true for classes with retained examples.
    """
    values, weights = [], []
    others = kept[heldout_labels] if kept[heldout_labels].any() else np.full(len(heldout), True)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        rows = heldout_labels == label
        under = heldout_labels
        if not kept[label]:
            rows, under = others, np.full_like(heldout_labels, label)
        elif not rows.any():
            rows = others
        values.append(signals.confidence(heldout[rows], under[rows]))
        weights.append(np.full(rows.sum(), count / rows.sum()))
    return np.concatenate(values), np.concatenate(weights)


def _try(plan, options, original, data, held_back, before, oracle) -> Trial:
    start = time.perf_counter()
    try:
        trial_plan = with_method(
            plan, plan.method, unlearners.configure(plan.method, options), data
        )
        model, _ = unlearn_model(trial_plan, original, data=data)
        score = score_model(plan.model, model.variables, data, held_back, before)
    except (DivergedError, InputError, InvariantError) as error:
        return Trial(options, None, None, time.perf_counter() - start, str(error))
    gap = None if oracle is None else oracle(model)
    return Trial(options, score, gap, model.seconds)


def _accuracies(
    model: Model, variables: Variables, data: UnlearnData, held_back: HeldBack
) -> tuple[float, float]:
    """Return the accuracies on held-back validation set and probe, over retained classes."""
    accuracies = []
    for examples in (held_back.validation, held_back.probe):
        labels = np.asarray(examples.labels)
        rows = np.isin(labels, np.asarray(data.retain.labels))
        logits = np.asarray(predict(model, variables, examples.inputs))
        accuracies.append(summary.accuracy(logits[rows], labels[rows]) if rows.any() else 100.0)
    return accuracies[0], accuracies[1]


def _divide(
    rng: np.random.Generator, examples: Examples, parts: int, argument: str, name: str
) -> tuple[Examples, Examples]:
    size = len(examples.labels)
    if size < parts:
        raise InputError(
            argument,
            f"leaves {size} {name} examples, of which tuning holds one in {parts} back",
            f"give at least {parts}, or set the options of the method by `config`",
        )
    order = jnp.asarray(rng.permutation(size))
    held = size // parts
    return take(examples, order[held:]), take(examples, order[:held])
