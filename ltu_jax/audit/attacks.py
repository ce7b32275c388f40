"""Membership attacks on a whole population: how well forget examples are told from unseen ones.

Results are in percent, but for `roc`. Losses and margins are `signals` `[N]`, one an example.
"""

from __future__ import annotations

import numpy as np

import ltu_jax.audit.roc as curves
from ltu_jax.audit import signals
from ltu_jax.errors import InputError

Array = np.ndarray

LEAST_SUPERVISED = 20  # examples a side; the trees of `supervised` cannot learn from fewer


def svc_mia(members: Array, nonmembers: Array, forget: Array) -> float:
    """SVC-MIA's forget efficacy: percent of the forget examples that are called *non*-members.

    A support vector classifier learns to tell members (retain examples) from non-members (test
    examples) by one signal `[N]`, or several `[N, F]`. The literature prints the one on
    `signals.confidence` as "MIA" (Fan et al., arXiv 2310.12508). The value to aim at is Retrain's.

    Raises:
      InputError: a set is empty, or holds NaN or infinity.

    >>> svc_mia([0.9, 0.8, 0.95], [0.2, 0.1, 0.3], [0.88, 0.22, 0.15, 0.93])
    50.0
    """
    (called_member,) = svc_calls(members, nonmembers, forget)
    return 100.0 * float(np.mean(~called_member))


def svc_calls(members: Array, nonmembers: Array, *targets: Array) -> list[Array]:
    """Which examples of each target set SVC-MIA calls members: booleans, one array `[N]` a set.

    Raises:
      InputError: a set is empty, or holds NaN or infinity.
    """
    from sklearn.svm import SVC

    members, nonmembers = _signal("members", members), _signal("nonmembers", nonmembers)
    targets = [_signal("a target", target) for target in targets]
    widths = [signal.shape[1] for signal in (members, nonmembers, *targets)]
    if len(set(widths)) > 1:
        raise InputError(f"members, nonmembers and targets have {widths} signals; give the same")
    is_member = np.repeat([1, 0], [len(members), len(nonmembers)])
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate([members, nonmembers]), is_member)
    return [attack.predict(target) == 1 for target in targets]


def loss_auc(forget_loss: Array, test_loss: Array) -> float:
    """AUC in percent of telling forget from test examples by a lower loss; ties count half.

    50 is a coin's; under exact unlearning of a random forget set it stays within
    `bounds.auc_floor_band`.

    Raises:
      InputError: a sample is empty, not of one axis, or holds NaN.

    >>> loss_auc([0.1, 0.4], [0.3, 0.5])
    75.0
    """
    forget_loss = curves.check_sample("forget_loss", forget_loss)
    test_loss = curves.check_sample("test_loss", test_loss)
    return 100.0 * curves.auc(-forget_loss, -test_loss)


def loss_logistic(forget_loss: Array, test_loss: Array, *, folds: int = 10, seed: int = 0) -> float:
    """Mean held-out accuracy in percent of a logistic regression on the loss; 50 is a coin's.

    The simple attack of the NeurIPS 2023 unlearning challenge's starting kit. It learns from equal
    numbers of forget and test examples, drawn by `seed` from the larger set, in stratified folds.

    Raises:
      InputError: a sample has fewer examples than `folds`, or holds NaN or infinity; `folds` < 2.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    _check_folds(folds)
    losses = [
        _signal(name, curves.check_sample(name, values, folds))
        for name, values in (("forget_loss", forget_loss), ("test_loss", test_loss))
    ]
    size, rng = min(map(len, losses)), np.random.default_rng(seed)
    features = np.concatenate([rng.permutation(values)[:size] for values in losses])
    is_forget = np.repeat([1, 0], [size, size])
    accuracies = cross_val_score(LogisticRegression(), features, is_forget, cv=_folds(folds, seed))
    return 100.0 * float(np.mean(accuracies))


def supervised(
    forget_logits: Array,
    forget_labels: Array,
    test_logits: Array,
    test_labels: Array,
    *,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """AUC in percent of boosted trees that learn from logits `[N, C]` and labels `[N]` themselves.

    They see the log-probabilities in descending order and the label's own log-probability and
    margin. Each example is scored by trees of the other folds, and all scores make one AUC. The
    attack finds what a threshold on one signal cannot, such as losses too alike to be natural;
    under exact unlearning of a random forget set it is a coin's 50, with a quarter more spread
    than `bounds.auc_floor_band`, because trees share examples.

    Raises:
      InputError: a set has fewer than 20 examples or than `folds`, other shapes, or NaN or
        infinity; `folds` < 2.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import cross_val_predict

    _check_folds(folds)
    least = max(folds, LEAST_SUPERVISED)
    check_labelled("forget", forget_logits, forget_labels, least)
    check_labelled("test", test_logits, test_labels, least)
    classes = np.shape(forget_logits)[1], np.shape(test_logits)[1]
    if classes[0] != classes[1]:
        raise InputError(f"forget_logits and test_logits have {classes} classes; give one number")
    forget, test = _outputs(forget_logits, forget_labels), _outputs(test_logits, test_labels)
    # Small leaves, or a set of some dozens would never be split; few of them, or it is memorised.
    trees = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, min_samples_leaf=5, early_stopping=False, random_state=seed
    )
    is_forget = np.repeat([1, 0], [len(forget), len(test)])
    scores = cross_val_predict(
        trees,
        np.concatenate([forget, test]),
        is_forget,
        cv=_folds(folds, seed),
        method="decision_function",
    )
    return 100.0 * curves.auc(scores[: len(forget)], scores[len(forget) :])


def two_model(
    original_margin_forget: Array,
    unlearned_margin_forget: Array,
    original_margin_test: Array,
    unlearned_margin_test: Array,
) -> float:
    """AUC in percent of an attacker who holds both models and calls forgotten what fell the most.

    Ranks by the drop of the margin from the original to the unlearned model (after Chen et al.,
    arXiv 2005.02205). **The target is Retrain's own value, not 50**: a retrained model, too, is
    less sure of what it no longer saw. Above it, the method pushed the forget set alone.

    Raises:
      InputError: the margins of a set differ in length, or hold NaN or infinity.

    >>> two_model([9, 8, 3], [2, 5, 3], [1, 2, 4], [1, 2, 3])
    77.77777777777779
    """
    pairs = {
        "forget": (original_margin_forget, unlearned_margin_forget),
        "test": (original_margin_test, unlearned_margin_test),
    }
    return 100.0 * curves.auc(*(_drop(name, *margins) for name, margins in pairs.items()))


def roc(forget_scores: Array, test_scores: Array) -> tuple[Array, Array]:
    """False and true positive rates in [0, 1]; a higher score means "was trained on".

    Only the corners, to draw the curve; all points are in `ltu_jax.audit.roc.curve`.
    """
    return curves.curve(forget_scores, test_scores, drop_intermediate=True)[:2]


def ks_distance(first: Array, second: Array) -> float:
    """Largest distance of two samples' distribution functions (Kolmogorov-Smirnov), in percent.

    Raises:
      InputError: a sample is empty, not of one axis, or holds NaN.

    >>> ks_distance([0, 1], [1, 2])
    50.0
    """
    first, second = curves.check_sample("first", first), curves.check_sample("second", second)
    values = np.concatenate([first, second])
    first_cdf, second_cdf = (
        np.searchsorted(np.sort(sample), values, side="right") / len(sample)
        for sample in (first, second)
    )
    return 100.0 * float(np.max(np.abs(first_cdf - second_cdf)))


def _drop(name: str, original: Array, unlearned: Array) -> Array:
    if np.ndim(original) != 1 or np.shape(original) != np.shape(unlearned):
        raise InputError(
            f"original_margin_{name} has shape {np.shape(original)} and unlearned_margin_{name} "
            f"{np.shape(unlearned)}; give [N] of the same examples in the same order"
        )
    original = _signal(f"original_margin_{name}", original)
    return (original - _signal(f"unlearned_margin_{name}", unlearned))[:, 0]


def _outputs(logits: Array, labels: Array) -> Array:
    """What `supervised` sees of a set, `[N, C + 2]`."""
    descending = -np.sort(-signals.log_softmax(logits), axis=1)
    own = (-signals.loss(logits, labels), signals.margin(logits, labels))
    return np.column_stack([descending, *own])


def check_labelled(name: str, logits: Array, labels: Array, least: int = 1) -> None:
    """Check that logits are `[N, C]` and finite, and labels `[N]` among 0 to C - 1.

    Raises:
      InputError: they are not, or there are fewer than `least` examples.
    """
    shape = np.shape(logits)
    if len(shape) != 2 or np.shape(labels) != shape[:1] or shape[0] < least:
        raise InputError(
            f"{name} has logits {shape} and labels {np.shape(labels)}; "
            f"give [N, C] and [N] with N of {least} or more"
        )
    if not np.isfinite(logits).all():
        raise InputError(f"{name} has logits with NaN or infinity; give finite numbers")
    if np.min(labels) < 0 or np.max(labels) >= shape[1]:
        raise InputError(
            f"{name} has labels from {np.min(labels)} to {np.max(labels)}; "
            f"give classes from 0 to {shape[1] - 1}"
        )


def _signal(name: str, values: Array, least: int = 1) -> Array:
    """Signals `[N]` or `[N, F]` as `[N, F]`."""
    values = np.asarray(values, np.float64)
    if values.ndim not in (1, 2) or len(values) < least:
        raise InputError(
            f"{name} has shape {values.shape}; give [N] or [N, F] with N of {least} or more"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinity; give finite numbers")
    return values.reshape(len(values), -1)


def _folds(folds: int, seed: int):
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(folds, shuffle=True, random_state=seed)


def _check_folds(folds: int) -> None:
    if folds < 2:
        raise InputError(f"folds is {folds}; give 2 or more")
