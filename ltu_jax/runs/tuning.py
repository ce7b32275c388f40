r"""Which options a method should run with, chosen without a retrained network.

Every trial runs the method on what it may see, less a part that is held back from it: a tenth of
the accessible retain set and a third of the validation set. Three things are measured on these, in
points (hundredths):

* mismatch: the area between the distributions of the confidence in the true class on the forget
  set and on held-back validation examples of the same classes (Wasserstein-1 distance);
* the validation accuracy lost against the original;
* the accuracy lost on the held-back tenth, the only view of retain examples that no update sees.

A trial's score is (2 mismatch + both losses) / 4, the less the better. It stands for the average
gap to Retrain, which is that of UA and MIA, TA, and RA: two measures of forgetting and two of
utility.

Of a forget set of a kind of its own (`ltu_jax.unlearners.ltu.objectives.reference`), held-out examples do not show what
it should become, nor which answers are to stay. A reference does, trained on what a trial may see
of the retain set: its confidences take the place of the held-back examples', and accuracy counts
where it answers as the original does.

Neither Retrain nor the test set nor the report's attacks take part. The first trial has the
method's default options, the others are spread at random over its search space. The oracle, which
knows Retrain, can be asked for; what it chose is labelled so.
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
from ltu_jax.unlearners.ltu import make_context
from ltu_jax.runs.models import unlearn_model
from ltu_jax.types import TrainedModel
from ltu_jax.runs.plan import Plan, visible_data, with_method
from ltu_jax.runs.spec import Rule
from ltu_jax.training.supervised import predict
from ltu_jax.types import Examples, Model, UnlearnData, Variables
from ltu_jax.unlearners.base import Method
from ltu_jax.unlearners.sampling import (take)

Oracle = Callable[[TrainedModel], float]
DEFAULT_TRIALS = 8
PROBE_SHARE, VALIDATION_SHARE = 10, 3  # one part in so many is held back
_REFERENCE_STREAM = 2**20  # of the seed; networks take the numbers from 0 on


class HeldBack(NamedTuple):
    """Examples that no update of a trial sees.

    Attributes:
      probe: a tenth of the accessible retain set.
      validation: a third of the validation set.
      reference: logits `[n, C]` for the forget set of a network that never saw it, where it is of a
        kind of its own; else None.
    """

    probe: Examples
    validation: Examples
    reference: np.ndarray | None = None


class Score(NamedTuple):
    """How good a trial is, in points; the less the better. See the module's text.

    Attributes:
      total: (2 mismatch + validation_drop + probe_drop) / 4.
      mismatch: distance of confidences, forget set against held-back validation.
      validation_drop: validation accuracy lost; 0 where it rose.
      probe_drop: accuracy lost on the held-back tenth of the accessible retain set.
    """

    total: float
    mismatch: float
    validation_drop: float
    probe_drop: float


class Trial(NamedTuple):
    """One run with one choice of options.

    Attributes:
      options: those that differ from the method's defaults.
      score: None where the run failed.
      gap: what the oracle says of it (average gap to Retrain); None where it was not asked.
      seconds: wall time of the run.
      failure: what went wrong, if something did.
    """

    options: Mapping[str, Any]
    score: Score | None
    gap: float | None
    seconds: float
    failure: str | None = None


class Selection(NamedTuple):
    """All trials of a method and which of them was chosen.

    Attributes:
      method: the method.
      rule: `oracle_free` or `oracle`.
      trials: in the order in which they ran.
      chosen: index of the chosen one.
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
        """Return everything as JSON holds it: the search space, the trials, scores and choice."""
        return {
            "method": self.method.name,
            "rule": self.rule,
            "space": {
                name: {type(how).__name__: list(_plain(how))}
                for name, how in self.method.space.items()
            },
            "trials": [
                {**trial._asdict(), "score": trial.score and trial.score._asdict()}
                for trial in self.trials
            ],
            "chosen": self.chosen,
            "options": dict(self.options),
        }


def read(method: Method, described: Mapping[str, Any]) -> Selection:
    """Return the selection of which `Selection.describe` has said `described`."""
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
      plan: of the deletion; names the method.
      original: the network to unlearn from.
      trials: how many; a method without a search space gets one.
      oracle: `network -> average gap to Retrain`; None chooses without it.
      on_trial: called with the number of a trial and the trial when it is done.

    Returns:
      See `Selection`. The chosen options are to be run anew on all that the method may see.

    Raises:
      InputError: too little data to hold something back.
      DivergedError: every trial failed.
    """
    method = plan.method
    data, held_back = hold_back(visible_data(plan.dataset, plan.split), seed=plan.seed)
    held_back = with_reference(plan.model, original, data, held_back, seed=plan.seed)
    before = _accuracies(plan.model, original, data, held_back)
    done = []
    for options in draw_options(method, trials, seed=plan.seed):
        trial = _try(plan, method, options, original, data, held_back, before, oracle)
        done.append(trial)
        if on_trial is not None:
            on_trial(len(done) - 1, trial)
    costs = [_cost(trial, oracle) for trial in done]
    if not np.isfinite(min(costs)):
        raise DivergedError(f"all {len(done)} trials of {method.name} failed: {done[0].failure}")
    rule = "oracle_free" if oracle is None else "oracle"
    return Selection(method, rule, done, int(np.argmin(costs)))


def draw_options(method: Method, count: int, *, seed: int) -> list[dict[str, Any]]:
    """Return the options of `count` trials: the defaults first, then draws from the search space.

    The draws are a Latin hypercube: of n draws each knob takes one value out of each n-th of its
    range, so that few trials see all of it. They depend on the seed and the method's name alone.
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
    """Return what a trial may see, and what is held back from it.

    Raises:
      InputError: the accessible retain set or the validation set is too small to be divided.
    """
    rng = np.random.default_rng(seed)
    retain, probe = _divide(rng, data.retain, PROBE_SHARE, "--retain-fraction leaves", "accessible")
    validation, judge = _divide(rng, data.validation, VALIDATION_SHARE, "--data has", "validation")
    return data._replace(retain=retain, validation=validation), HeldBack(probe, judge)


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


def score_network(
    model: Model,
    variables: Variables,
    data: UnlearnData,
    held_back: HeldBack,
    before: tuple[float, float],
) -> Score:
    """Score an unlearned network; `before` is the original's accuracy on validation and probe."""
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
    """Return confidences of non-members and weights, class by class in the forget set's shares.

    Non-members of a class are held-out examples of it. A class of which nothing is retained has
    none: a network retrained without it would not know it, so that examples of the other classes,
    under the forgotten label, stand for it. So they do for a class that the held-out set lacks,
    under their own labels.

    Args:
      labels: `[n]` of the forget set.
      heldout: `[N, C]` logits of held-out examples.
      heldout_labels: `[N]`.
      kept: `[C]` booleans, the classes of which something is retained.
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


def _try(plan, method, options, original, data, held_back, before, oracle) -> Trial:
    start = time.perf_counter()
    try:
        trial_plan = with_method(plan, method, unlearners.configure(method, options), data)
        network, _ = unlearn_model(trial_plan, original, data=data)
        score = score_network(plan.model, network.variables, data, held_back, before)
    except (DivergedError, InputError, InvariantError) as error:
        return Trial(options, None, None, time.perf_counter() - start, str(error))
    gap = None if oracle is None else oracle(network)
    return Trial(options, score, gap, network.seconds)


def _cost(trial: Trial, oracle: Oracle | None) -> float:
    if trial.score is None:
        return float("inf")
    return trial.score.total if oracle is None else trial.gap


def _accuracies(
    model: Model, variables: Variables, data: UnlearnData, held_back: HeldBack
) -> tuple[float, float]:
    """Return the accuracies on held-back validation and probe, of classes that are retained."""
    found = []
    for examples in (held_back.validation, held_back.probe):
        labels = np.asarray(examples.labels)
        rows = np.isin(labels, np.asarray(data.retain.labels))
        logits = np.asarray(predict(model, variables, examples.inputs))
        found.append(summary.accuracy(logits[rows], labels[rows]) if rows.any() else 100.0)
    return found[0], found[1]


def _divide(
    rng: np.random.Generator, examples: Examples, parts: int, who: str, what: str
) -> tuple[Examples, Examples]:
    size = len(examples.labels)
    if size < parts:
        raise InputError(
            f"{who} {size} {what} examples; choosing options holds one in {parts} of them back, "
            f"so that at least {parts} are needed: give --method options by --config instead"
        )
    order = jnp.asarray(rng.permutation(size))
    held = size // parts
    return take(examples, order[held:]), take(examples, order[:held])


def _plain(how: Any) -> tuple:
    return tuple(how.options) if hasattr(how, "options") else tuple(how)
