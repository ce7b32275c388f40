"""Copies: examples to forget that stay in the data to keep, and held-out training examples.

Exact copies have equal bytes. Images are near copies if their pixels correlate almost perfectly,
as after recompression, a little noise or another brightness; candidates are found by thumbnails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from ltu_jax.data.on_disk import OnDisk
from ltu_jax.errors import warn
from ltu_jax.types import Array, Dataset, Split

THUMBNAIL = 8  # pixels on each side
CANDIDATE = 0.97  # correlation of thumbnails
NEAR = 0.99  # correlation of images
NEAR_SMALL = 0.995  # of images below 16 pixels: handwritten digits of 8 pixels reach 0.99
MAX_EXAMINED = 1000  # forget examples that are compared with all images
_CHUNK = 4096


def warn_of_copies(dataset: Dataset, split: Split) -> None:
    """Warn of copies of forgotten examples that stay, and of held-out examples that do not count.

    Args:
      dataset: of the deletion.
      split: of the deletion; its `forget` and `retain` are compared.
    """
    inputs, heldout = dataset.train.inputs, dataset.heldout.inputs
    train = digests(inputs)
    forget, retain = train[split.forget], train[split.retain]
    twins = np.isin(forget, retain)
    if twins.any():
        warn(
            f"{_of(twins.sum(), len(twins), 'to forget')} an exact copy in the data to keep, from "
            "which a model still learns them; request the copies too"
        )
    if isinstance(inputs, OnDisk):
        return
    unseen = digests(heldout)
    seen = np.isin(unseen, train)
    if seen.any():
        warn(
            f"{_of(seen.sum(), len(seen), 'held out')} an exact copy in the training set; they are "
            "not unseen, so test accuracy and attacks are not what they seem"
        )
    if inputs.ndim != 4 or min(inputs.shape[1:3]) < THUMBNAIL:
        return
    examined = np.flatnonzero(~twins & ~np.isin(forget, unseen))
    examined = examined[:: -(-len(examined) // MAX_EXAMINED) or 1]
    images = np.asarray(inputs[split.forget[examined]])
    for part, others in (
        ("data to keep", _chunks(inputs, split.retain)),
        ("held-out set", _chunks(heldout)),
    ):
        near = near_copies(images, others)
        if near.any():
            warn(
                f"{_of(near.sum(), len(near), 'to forget that were compared')} a near copy in the "
                f"{part} (correlation of pixels above {_threshold(images)})"
            )


def digests(inputs: Array | OnDisk) -> np.ndarray:
    """Return a digest `[N]` of each example; 0.0 and -0.0 are equal.

    >>> a = digests(np.array([[0.0], [-0.0], [1.0]]))
    >>> a[0] == a[1] != a[2]
    True
    """
    if isinstance(inputs, OnDisk):
        return np.ascontiguousarray(inputs.digests).view(f"S{inputs.digests.shape[1]}").ravel()
    found = []
    for chunk in _chunks(np.asarray(inputs)):
        if chunk.dtype.kind == "f":
            chunk = chunk + chunk.dtype.type(0)
        rows = np.ascontiguousarray(chunk).reshape(len(chunk), -1).view(np.uint8)
        found += [hashlib.blake2b(row.data, digest_size=16).hexdigest() for row in rows]
    return np.array(found, dtype=np.bytes_)


def near_copies(images: np.ndarray, others: Iterator[np.ndarray]) -> np.ndarray:
    """Return for each image `[N]` whether one of the others is a near copy.

    Args:
      images: `[N, H, W, C]`.
      others: parts `[n, H, W, C]` of all images to compare with.
    """
    near = np.zeros(len(images), bool)
    if not len(images):
        return near
    small, whole, threshold = thumbnails(images), _unit(images), _threshold(images)
    for chunk in others:
        correlation = small @ thumbnails(chunk).T
        best = correlation.argmax(1)
        rows = np.flatnonzero(correlation.max(1) > CANDIDATE)
        if len(rows):
            near[rows] |= (whole[rows] * _unit(chunk[best[rows]])).sum(1) > threshold
    return near


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Return grey thumbnails `[N, 64]` of mean 0 and length 1; flat images are zeros."""
    height, width, channels = images.shape[1:]
    # Large images are thinned first; a thumbnail needs no more than about 64 pixels a side.
    images = images[:, :: max(height // 64, 1), :: max(width // 64, 1)]
    height, width = images.shape[1:3]
    columns = np.repeat(_pooling(width), channels, axis=0) / channels
    flat = images.reshape(len(images), height, width * channels).astype(np.float32)
    return _unit(np.einsum("hy,nhx->nyx", _pooling(height), flat @ columns, optimize=True))


def _pooling(size: int) -> np.ndarray:
    """Return the matrix `[size, 8]` that averages neighbouring pixels."""
    edges = np.arange(THUMBNAIL + 1) * size // THUMBNAIL
    pixels = np.arange(size)[:, None]
    inside = (edges[:-1] <= pixels) & (pixels < edges[1:])
    return (inside / inside.sum(0)).astype(np.float32)


def _unit(images: np.ndarray) -> np.ndarray:
    """Return rows of mean 0 and length 1."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _threshold(images: np.ndarray) -> float:
    return NEAR if min(images.shape[1:3]) >= 2 * THUMBNAIL else NEAR_SMALL


def _chunks(inputs: Array, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    size = len(inputs if rows is None else rows)
    for first in range(0, size, _CHUNK):
        part = slice(first, first + _CHUNK)
        yield np.asarray(inputs[part] if rows is None else inputs[rows[part]])


def _of(count: int, total: int, which: str) -> str:
    """Return how many of the examples have something, up to the verb."""
    return f"{count:,} of the {total:,} examples {which} {'has' if count == 1 else 'have'}"
