r"""Per-example signals that membership attacks look at, from logits `[N, C]` and labels `[N]`.

All in float64, and accurate where a memorised example makes p_y indistinguishable from 1: there
both ln p_y and ln(1 - p_y) come from the margin, never from a rounded probability.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import special

Array = np.ndarray


def log_softmax(logits: Array) -> Array:
    """Logarithm of the predicted probabilities, `[N, C]`."""
    return _log_p_and_rest(logits)[0]


def confidence(logits: Array, labels: Array) -> Array:
    """p_y, the probability of the true class, `[N]`."""
    return np.exp(_of_label(log_softmax(logits), labels))


def loss(logits: Array, labels: Array) -> Array:
    """Cross-entropy -ln p_y, `[N]`, in nats."""
    return -_of_label(log_softmax(logits), labels)


def entropy(logits: Array) -> Array:
    r"""Entropy of the prediction, $-\sum_k p_k \ln p_k$, `[N]`, in nats."""
    log_p = log_softmax(logits)
    return -np.sum(np.exp(log_p) * log_p, axis=1)


def correctness(logits: Array, labels: Array) -> Array:
    """1.0 where the largest logit is the label's, else 0.0, `[N]`."""
    return (np.argmax(logits, axis=1) == labels).astype(np.float64)


def margin(logits: Array, labels: Array) -> Array:
    r"""$z_y - \ln \sum_{k \ne y} e^{z_k} = \ln p_y - \ln(1 - p_y)$, `[N]`."""
    log_p, log_rest = _log_p_and_rest(logits)
    return _of_label(log_p - log_rest, labels)


def modified_entropy(
    logits: Array,
    labels: Array,
    *,
    variant: Literal["song-mittal", "salun-2024"] = "song-mittal",
) -> Array:
    r"""Entropy that knows the label, `[N]`, in nats: 0 if sure and right, large if sure and wrong.

    $-(1 - p_y) \ln p_y - \sum_{k \ne y} p_k \ln(1 - p_k)$, Song & Mittal (arXiv 2003.10595).

    `variant="salun-2024"` is for comparison with numbers printed by SalUn's released code alone.
    There ln(1 - p_k) is ln p_k by mistake, and every class that occurs among `labels` is treated as
    if it were each example's own, so that the value of one example hangs on its company.
    """
    log_p, log_rest = _log_p_and_rest(logits)
    if variant == "salun-2024":
        occurs = np.isin(np.arange(log_p.shape[1]), labels)
        return -np.sum(np.where(occurs, np.exp(log_rest), np.exp(log_p)) * log_p, axis=1)
    others = np.exp(log_p) * log_rest
    own = np.exp(log_rest) * log_p
    return -_of_label(own, labels) - (np.sum(others, axis=1) - _of_label(others, labels))


def _log_p_and_rest(logits: Array) -> tuple[Array, Array]:
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


def _of_label(values: Array, labels: Array) -> Array:
    return np.take_along_axis(values, np.asarray(labels)[:, None], axis=1)[:, 0]
