r"""Per-example signals of membership attacks, from logits `[N, C]` and labels `[N]`.

All are float64 and accurate for memorised examples, whose p_y rounds to 1: ln p_y and ln(1 - p_y)
are computed from the margin, not from a rounded probability.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import special

from ltu_jax.types import Array


def log_softmax(logits: Array) -> np.ndarray:
    """Return the logarithms of the predicted probabilities, `[N, C]`."""
    return _log_p_and_rest(logits)[0]


def confidence(logits: Array, labels: Array) -> np.ndarray:
    """Return p_y, the probability of the true class, `[N]`."""
    return np.exp(_of_label(log_softmax(logits), labels))


def loss(logits: Array, labels: Array) -> np.ndarray:
    """Return the cross-entropy -ln p_y, `[N]`, in nats."""
    return -_of_label(log_softmax(logits), labels)


def entropy(logits: Array) -> np.ndarray:
    r"""Return the entropy of the prediction, $-\sum_k p_k \ln p_k$, `[N]`, in nats."""
    log_p = log_softmax(logits)
    return -np.sum(np.exp(log_p) * log_p, axis=1)


def correctness(logits: Array, labels: Array) -> np.ndarray:
    """Return 1.0 where the largest logit is the label's, else 0.0, `[N]`."""
    return (np.argmax(logits, axis=1) == labels).astype(np.float64)


def margin(logits: Array, labels: Array) -> np.ndarray:
    r"""Return $z_y - \ln \sum_{k \ne y} e^{z_k} = \ln p_y - \ln(1 - p_y)$, `[N]`."""
    log_p, log_rest = _log_p_and_rest(logits)
    return _of_label(log_p - log_rest, labels)


def modified_entropy(
    logits: Array,
    labels: Array,
    *,
    variant: Literal["song-mittal", "salun-2024"] = "song-mittal",
) -> np.ndarray:
    r"""Return the modified entropy, `[N]`, in nats: 0 if sure and right, large if sure and wrong.

    $-(1 - p_y) \ln p_y - \sum_{k \ne y} p_k \ln(1 - p_k)$.

    Args:
      logits: `[N, C]`.
      labels: `[N]`.
      variant: `"salun-2024"` reproduces numbers of SalUn's released code. It uses ln p_k in place
        of ln(1 - p_k) and treats every class among `labels` as each example's own class.

    References:
      Song & Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
      arXiv 2003.10595.
    """
    log_p, log_rest = _log_p_and_rest(logits)
    if variant == "salun-2024":
        occurs = np.isin(np.arange(log_p.shape[1]), labels)
        return -np.sum(np.where(occurs, np.exp(log_rest), np.exp(log_p)) * log_p, axis=1)
    others = np.exp(log_p) * log_rest
    own = np.exp(log_rest) * log_p
    return -_of_label(own, labels) - (np.sum(others, axis=1) - _of_label(others, labels))


def _log_p_and_rest(logits: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return ln p and ln(1 - p), both `[N, C]`, each to full relative accuracy."""
    logits = np.asarray(logits, np.float64)
    top = np.argmax(logits, axis=1)[:, None]
    log_p = special.log_softmax(logits, axis=1)
    others = logits.copy()
    np.put_along_axis(others, top, -np.inf, axis=1)
    top_margin = np.take_along_axis(logits, top, axis=1) - special.logsumexp(
        others, axis=1, keepdims=True
    )
    # Only the largest p can come near 1, where 1 - p would cancel.
    p = np.exp(log_p)
    np.put_along_axis(p, top, 0.0, axis=1)
    log_rest = np.log1p(-p)
    np.put_along_axis(log_p, top, special.log_expit(top_margin), axis=1)
    np.put_along_axis(log_rest, top, special.log_expit(-top_margin), axis=1)
    return log_p, log_rest


def _of_label(values: np.ndarray, labels: Array) -> np.ndarray:
    return np.take_along_axis(values, np.asarray(labels)[:, None], axis=1)[:, 0]
