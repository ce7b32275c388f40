"""Kinds of outputs: logits, probabilities and scores of the true class, checked and converted.

Every kind becomes logits. A score of the true class alone becomes the two logits of "the true class
or another one", from which its confidence, loss and margin are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import special

from ltu_jax.errors import InputError

KINDS = ("auto", "logits", "probabilities", "log_probabilities", "confidence", "loss", "margin")
SCORES = ("confidence", "loss", "margin")  # of the true class: a number for each example
VALUES = 2**20  # numbers that are read at once
TOLERANCE = 1e-3  # of a sum of probabilities; of float16 ten times as much


class Facts(NamedTuple):
    """What was seen of an array.

    Attributes:
      low: the smallest value.
      high: the largest value.
      off: the largest distance from 1 of the sum of a row.
      log_off: the same of the exponentials of a row.
      saturated: number of values that are exactly 0 or 1.
    """

    low: float
    high: float
    off: float
    log_off: float
    saturated: int


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row and the values of consecutive blocks of rows.

    Of a memory-mapped file, only one block is in memory at a time.
    """
    step = max(1, VALUES // max(1, int(np.prod(array.shape[1:]))))
    for first in range(0, len(array), step):
        yield first, _rows(array, first, min(first + step, len(array)))


def _rows(array: np.ndarray, first: int, last: int) -> np.ndarray:
    if not isinstance(array, np.memmap) or array.filename is None or not array.flags.c_contiguous:
        return np.asarray(array[first:last])
    width = int(np.prod(array.shape[1:]))
    start = array.offset + first * width * array.itemsize
    count = (last - first) * width
    values = np.fromfile(str(array.filename), array.dtype, count, offset=start)
    return values.reshape(last - first, *array.shape[1:])


def check_kind(name: str, array: np.ndarray, kind: str) -> tuple[str, Facts]:
    """Return the kind of an array, found by its values if `kind` is `auto`.

    Raises:
      InputError: values that are not finite, do not fit the kind, or fit several kinds.
    """
    if kind not in KINDS:
        raise InputError("kind", f"is {kind!r}", f"choose among {', '.join(KINDS)}")
    if array.dtype.kind != "f":
        remedy = "give floating-point outputs"
        raise InputError("outputs", f"{name} is of type {array.dtype}", remedy)
    single = array.ndim == 1 or array.shape[-1] == 1
    if kind in SCORES and not single:
        problem = f"is {kind!r}, but {name} has shape {array.shape}"
        raise InputError("kind", problem, "give a score for each example, or another kind")
    if single and kind in ("auto", "log_probabilities"):
        problem = f"is {kind!r}, but {name} has one number for each example"
        remedy = (
            "say what it is: 'confidence', 'loss' or 'margin' of the true class, or 'logits' or "
            "'probabilities' of class 1 of two"
        )
        raise InputError("kind", problem, remedy)
    facts = _facts(name, array)
    tolerance = TOLERANCE * (10 if array.dtype == np.float16 else 1)
    kind = _detect(name, facts, tolerance) if kind == "auto" else kind
    _check_fit(name, facts, kind, tolerance, single)
    return kind, facts


def _facts(name: str, array: np.ndarray) -> Facts:
    low, high, off, log_off, saturated = np.inf, -np.inf, 0.0, 0.0, 0
    for first, block in blocks(array):
        values = block.astype(np.float64).reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
        if not np.isfinite(values).all():
            row = first + int(np.argmax(~np.isfinite(block).reshape(len(block), -1).all(1)))
            what = "NaN" if np.isnan(values).any() else "infinity"
            found = f"{name} holds {what}, first in row {row}"
            raise InputError("outputs", found, "give finite numbers")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        off = max(off, float(np.abs(values.sum(1) - 1).max()))
        if high <= 1e-6:
            log_off = max(log_off, float(np.abs(np.exp(values).sum(1) - 1).max()))
        saturated += int(np.count_nonzero((values == 0) | (values == 1)))
    return Facts(low, high, off, log_off, saturated)


def _detect(name: str, facts: Facts, tolerance: float) -> str:
    if facts.low >= 0 and facts.high <= 1 + tolerance:
        if facts.off <= tolerance:
            return "probabilities"
        problem = (
            f"is 'auto', but {name} has values from 0 to 1 in rows whose sums differ from 1 by up "
            f"to {facts.off:.2g}"
        )
        raise InputError("kind", problem, "give 'logits' if they are, or normalise the rows")
    if facts.high <= 1e-6 and facts.log_off <= tolerance:
        return "log_probabilities"
    return "logits"


def _check_fit(name: str, facts: Facts, kind: str, tolerance: float, single: bool) -> None:
    span = f"{name} ranges from {facts.low:.4g} to {facts.high:.4g}"
    in_range = {
        "probabilities": facts.low >= 0 and facts.high <= 1 + tolerance,
        "confidence": facts.low >= 0 and facts.high <= 1 + tolerance,
        "log_probabilities": facts.high <= tolerance,
        "loss": facts.low >= 0,
    }
    if not in_range.get(kind, True):
        raise InputError("outputs", f"{span}, not as {kind} do", "give another `kind`")
    off = {"probabilities": facts.off, "log_probabilities": facts.log_off}.get(kind, 0.0)
    if off > tolerance and not single:
        problem = f"{name} has rows of {kind} whose sums differ from 1 by up to {off:.2g}"
        raise InputError("outputs", problem, "normalise the rows, or give another `kind`")


def to_logits(block: np.ndarray, kind: str) -> np.ndarray:
    """Return outputs `[..., C]` or `[n]` as logits; see the module for scores.

    >>> to_logits(np.array([0.5]), "confidence").tolist()
    [[0.0, 0.0]]
    """
    smallest = float(np.finfo(block.dtype).tiny)  # in place of a probability of 0
    if kind == "logits":
        values = block.astype(np.float32) if block.dtype == np.float16 else block
        return _two_classes(np.zeros_like(values), values) if _is_single(block) else values
    values = block.astype(np.float64)
    if kind == "log_probabilities":
        return values
    if kind == "probabilities":
        if not _is_single(block):
            return np.log(np.maximum(values, smallest))
        pair = _two_classes(1 - np.minimum(values, 1), values)
        return np.log(np.maximum(pair, smallest))
    if kind == "confidence":
        values = np.log(np.maximum(values, smallest)) - np.log(np.maximum(1 - values, smallest))
    elif kind == "loss":  # ln p - ln(1 - p) for p = e^-loss
        values = -values - np.log(np.maximum(-np.expm1(-values), smallest))
    return _two_classes(values, np.zeros_like(values))


def _is_single(block: np.ndarray) -> bool:
    return block.ndim == 1 or block.shape[-1] == 1


def _two_classes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([np.ravel(first), np.ravel(second)], axis=-1)


def margin_confidence(margins: np.ndarray) -> np.ndarray:
    """Return the confidences of margins ln p - ln(1 - p)."""
    return special.expit(margins)
