"""Population membership attacks: forget examples against unseen ones, in percent.

Losses and margins are `signals` `[N]`.
"""

from __future__ import annotations

import numpy as np

from ltu_jax.audit import signals
from ltu_jax.audit.checks import check, check_finite, check_labelled, check_scores
from ltu_jax.audit.roc import roc_auc
from ltu_jax.errors import InputError
from ltu_jax.types import Array

LEAST_SUPERVISED = 20  # examples a side; the trees of `supervised_auc` cannot learn from fewer


def svc_mia(members: Array, nonmembers: Array, forget: Array) -> float:
    """Return SVC-MIA's forget efficacy: percent of forget examples classified as *non*-members.

    A support vector classifier is fitted to members (retain examples) and non-members (test
    examples) by one signal `[N]`, or several `[N, F]`. Papers report the one on
    `signals.confidence` as "MIA". The target is Retrain's value.

    Raises:
      InputError: a set is empty, or holds NaN or infinity.

    >>> svc_mia([0.9, 0.8, 0.95], [0.2, 0.1, 0.3], [0.88, 0.22, 0.15, 0.93])
    50.0

    References:
      Fan et al., "SalUn", arXiv 2310.12508.
    """
    (called_member,) = svc_calls(members, nonmembers, forget)
    return 100.0 * float(np.mean(~called_member))


def svc_calls(members: Array, nonmembers: Array, *targets: Array) -> list[np.ndarray]:
    """Return SVC-MIA's decisions "is a member", a boolean array `[N]` for each target set.

    Raises:
      InputError: a set is empty, or holds NaN or infinity.
    """
    from sklearn.svm import SVC

    members, nonmembers = _signal("members", members), _signal("nonmembers", nonmembers)
    signals_of = [_signal("targets", target) for target in targets]
    widths = [signal.shape[1] for signal in (members, nonmembers, *signals_of)]
    if len(set(widths)) > 1:
        raise InputError("targets", f"and the shadow sets have {widths} signals", "give the same")
    is_member = np.repeat([1, 0], [len(members), len(nonmembers)])
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate([members, nonmembers]), is_member)
    return [attack.predict(target) == 1 for target in signals_of]


def loss_auc(forget_loss: Array, test_loss: Array) -> float:
    """Return the AUC in percent of a lower loss for forget than for test examples; ties count half.

    50 is chance; exact unlearning of a random forget set stays within `bounds.auc_floor_band`.

    Raises:
      InputError: a sample is empty, not of one axis, or holds NaN.

    >>> loss_auc([0.1, 0.4], [0.3, 0.5])
    75.0
    """
    forget_loss = check_scores("forget_loss", forget_loss)
    return 100.0 * roc_auc(-forget_loss, -check_scores("test_loss", test_loss))


def loss_logistic_accuracy(
    forget_loss: Array, test_loss: Array, *, folds: int = 10, seed: int = 0
) -> float:
    """Return the held-out accuracy in percent of a logistic regression on the loss; 50 is chance.

    The attack of the NeurIPS 2023 unlearning challenge's starting kit. It is fitted, in stratified
    folds, to equal numbers of forget and test examples, drawn by `seed` from the larger set.

    Raises:
      InputError: a sample has fewer examples than `folds`, or holds NaN or infinity; `folds` < 2.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    check(folds >= 2, "folds", folds, "2 or more")
    losses = [
        _signal(name, check_scores(name, values, folds))
        for name, values in (("forget_loss", forget_loss), ("test_loss", test_loss))
    ]
    size, rng = min(map(len, losses)), np.random.default_rng(seed)
    features = np.concatenate([rng.permutation(values)[:size] for values in losses])
    is_forget = np.repeat([1, 0], [size, size])
    accuracies = cross_val_score(LogisticRegression(), features, is_forget, cv=_folds(folds, seed))
    return 100.0 * float(np.mean(accuracies))


def supervised_auc(
    forget_logits: Array,
    forget_labels: Array,
    test_logits: Array,
    test_labels: Array,
    *,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Return the AUC in percent of boosted trees on logits `[N, C]` and labels `[N]`.

    Features are the log-probabilities in descending order and the label's log-probability and
    margin. Each example is scored by trees of the other folds. Unlike a threshold on one signal,
    the attack detects, for example, losses with too little variance. 50 is chance; exact unlearning
    of a random forget set has a quarter more spread than `bounds.auc_floor_band`, because trees
    share examples.

    Raises:
      InputError: a set has fewer than 20 examples or than `folds`, other shapes, or NaN or
        infinity; `folds` < 2.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import cross_val_predict

    check(folds >= 2, "folds", folds, "2 or more")
    least = max(folds, LEAST_SUPERVISED)
    check_labelled("forget", forget_logits, forget_labels, least)
    check_labelled("test", test_logits, test_labels, least)
    classes = np.shape(forget_logits)[1], np.shape(test_logits)[1]
    if classes[0] != classes[1]:
        raise InputError("test_logits", f"has {classes[1]} classes", f"give {classes[0]}")
    forget, test = _outputs(forget_logits, forget_labels), _outputs(test_logits, test_labels)
    # Small leaves split sets of a few dozen examples; few leaves do not memorise them.
    trees = HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        min_samples_leaf=5,
        early_stopping=False,  # pyright: ignore[reportArgumentType]  # inferred from "auto"
        random_state=seed,
    )
    is_forget = np.repeat([1, 0], [len(forget), len(test)])
    features = np.concatenate([forget, test])
    scores = np.asarray(
        cross_val_predict(
            trees, features, is_forget, cv=_folds(folds, seed), method="decision_function"
        )
    )
    return 100.0 * roc_auc(scores[: len(forget)], scores[len(forget) :])


def two_model_auc(
    original_margin_forget: Array,
    unlearned_margin_forget: Array,
    original_margin_test: Array,
    unlearned_margin_test: Array,
) -> float:
    """Return the AUC in percent of an attacker with both models, who ranks by the drop of margins.

    **The target is Retrain's value, not 50**: the margins of a retrained model drop as well. A
    larger value shows that the method changed the forget set's outputs more than retraining does.

    Raises:
      InputError: the margins of a set differ in length, or hold NaN or infinity.

    >>> two_model_auc([9, 8, 3], [2, 5, 3], [1, 2, 4], [1, 2, 3])
    77.77777777777779

    References:
      Chen et al., "When Machine Unlearning Jeopardizes Privacy", arXiv 2005.02205.
    """
    pairs = {
        "forget": (original_margin_forget, unlearned_margin_forget),
        "test": (original_margin_test, unlearned_margin_test),
    }
    return 100.0 * roc_auc(*(_drop(name, *margins) for name, margins in pairs.items()))


def ks_distance(first: Array, second: Array) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples, in percent.

    Raises:
      InputError: a sample is empty, not of one axis, or holds NaN.

    >>> ks_distance([0, 1], [1, 2])
    50.0
    """
    first, second = check_scores("first", first), check_scores("second", second)
    values = np.concatenate([first, second])
    first_cdf, second_cdf = (
        np.searchsorted(np.sort(sample), values, side="right") / len(sample)
        for sample in (first, second)
    )
    return 100.0 * float(np.max(np.abs(first_cdf - second_cdf)))


def _drop(name: str, original: Array, unlearned: Array) -> np.ndarray:
    if np.ndim(original) != 1 or np.shape(original) != np.shape(unlearned):
        found = f"has shape {np.shape(unlearned)}, `original_margin_{name}` {np.shape(original)}"
        remedy = "give [N] of the same examples in the same order"
        raise InputError(f"unlearned_margin_{name}", found, remedy)
    original = _signal(f"original_margin_{name}", original)
    return (original - _signal(f"unlearned_margin_{name}", unlearned))[:, 0]


def _outputs(logits: Array, labels: Array) -> np.ndarray:
    """Return the features of `supervised_auc`, `[N, C + 2]`."""
    descending = -np.sort(-signals.log_softmax(logits), axis=1)
    own = (-signals.loss(logits, labels), signals.margin(logits, labels))
    return np.column_stack([descending, *own])


def _signal(name: str, values: Array) -> np.ndarray:
    """Return signals `[N]` or `[N, F]` as `[N, F]`."""
    values = check_finite(name, values, 2 if np.ndim(values) == 2 else 1)
    return values.reshape(len(values), -1)


def _folds(folds: int, seed: int):
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(folds, shuffle=True, random_state=seed)
