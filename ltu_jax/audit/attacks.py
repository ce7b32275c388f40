"""Membership attacks on a whole population: how well forget examples are told from unseen ones."""

from __future__ import annotations

import numpy as np
import scipy

Array = np.ndarray


def svc_mia(members: Array, nonmembers: Array, forget: Array) -> float:
    """SVC-MIA's forget efficacy: percent of the forget examples that are called *non*-members.

    A support vector classifier learns to tell members (retain examples) from non-members (test
    examples) by one signal `[N]`, or several `[N, F]`. The literature prints the one on
    `signals.confidence` as "MIA" (Fan et al., arXiv 2310.12508). The value to aim at is Retrain's.
    """
    from sklearn.svm import SVC

    members, nonmembers, forget = (
        np.asarray(signal, np.float64).reshape(len(signal), -1)
        for signal in (members, nonmembers, forget)
    )
    is_member = np.repeat([1, 0], [len(members), len(nonmembers)])
    attack = SVC(C=3, gamma="auto", kernel="rbf")
    attack.fit(np.concatenate([members, nonmembers]), is_member)
    return 100.0 * float(np.mean(attack.predict(forget) == 0))


def loss_auc(forget_loss: Array, test_loss: Array) -> float:
    """AUC in percent of telling forget from test examples by a lower loss; ties count half.

    50 is a coin's; under exact unlearning of a random forget set it stays within
    `bounds.auc_floor_band`.
    """
    ranks = scipy.stats.rankdata(np.concatenate([forget_loss, test_loss]))
    n_forget, n_test = len(forget_loss), len(test_loss)
    wins = np.sum(ranks[n_forget:]) - n_test * (n_test + 1) / 2
    return 100.0 * float(wins / (n_forget * n_test))


def roc(forget_scores: Array, test_scores: Array) -> tuple[Array, Array]:
    """False and true positive rates in [0, 1]; a higher score means "was trained on"."""
    from sklearn.metrics import roc_curve

    is_forget = np.repeat([1, 0], [len(forget_scores), len(test_scores)])
    fpr, tpr, _ = roc_curve(is_forget, np.concatenate([forget_scores, test_scores]))
    return fpr, tpr


def ks_distance(first: Array, second: Array) -> float:
    """Largest distance of two samples' distribution functions (Kolmogorov-Smirnov), in percent."""
    values = np.concatenate([first, second])
    first_cdf, second_cdf = (
        np.searchsorted(np.sort(sample), values, side="right") / len(sample)
        for sample in (first, second)
    )
    return 100.0 * float(np.max(np.abs(first_cdf - second_cdf)))
