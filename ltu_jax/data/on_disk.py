"""Images that stay on disk: rows are read and decoded when they are asked for.

For training sets that no memory holds. What is kept of every image is a digest, its label and its
id; the images themselves are those of a TFDS data set prepared as array_record, which can be read
in any order and by many threads at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.types import Array

_CHUNK = 1024  # records that are in memory at once, still encoded, while the set is looked through


class OnDisk:
    """The inputs `[N, H, W, C]` of a training set, as an array that is not in memory.

    Has an array's length, shape and type, and `[rows]`, which reads those rows into memory; it is
    no array, so that nothing can make one of all of it by mistake.

    Args:
      source: gives encoded images by row, as `__getitems__` of TFDS's data sources does.
      decode: from an encoded image to its array.
      rows: `[N]`, of the source.
      digests: `[N, 32]` bytes, the SHA-256 of each encoded image.
      shape: `(H, W, C)` of every image.

    Attributes:
      digests: as given.
      shape: `(N, H, W, C)`.
      dtype: uint8.
      ndim: 4.
    """

    def __init__(
        self,
        source: Callable[[Sequence[int]], list[bytes]],
        decode: Callable[[bytes], np.ndarray],
        rows: np.ndarray,
        digests: np.ndarray,
        shape: tuple[int, ...],
    ):
        self._source, self._decode, self._rows = source, decode, rows
        self.digests = digests
        self.shape = (len(rows), *shape)
        self.dtype, self.ndim = np.dtype(np.uint8), 1 + len(shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the images `[n, H, W, C]` of these rows."""
        encoded = self._source(self._rows[rows].tolist())
        images = np.empty((len(encoded), *self.shape[1:]), self.dtype)
        for i, data in enumerate(encoded):
            images[i] = self._decode(data)
        return images

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        """Refuse.

        Raises:
          InputError: always.
        """
        raise InputError(
            f"--stream: this needs all {len(self)} training images in memory; "
            "run without --stream, or on a --train-size that fits"
        )

    def take(self, rows: np.ndarray) -> OnDisk:
        """Return the part that has these rows, still on disk."""
        return OnDisk(
            self._source, self._decode, self._rows[rows], self.digests[rows], self.shape[1:]
        )


def content(inputs: Array | OnDisk) -> Array:
    """Return what tells one set of inputs from another: arrays themselves, of images digests."""
    return inputs.digests if isinstance(inputs, OnDisk) else inputs


def look_through(
    name: str, source: Any, image_key: str, fixed: Sequence[int | None]
) -> tuple[list[dict[str, Any]], np.ndarray, tuple[int, ...]]:
    """Go once through a data source whose images come encoded, and keep everything but them.

    Args:
      name: of the data set, for errors.
      source: a TFDS data source that skips the decoding of images.
      image_key: the column of the image.
      fixed: `(H, W, C)` as the data set declares it, None for what it leaves open.

    Returns:
      Every row without its image, the digests `[N, 32]` of the images, and their shape.

    Raises:
      InputError: the images differ in shape.
    """
    rows, digests, shapes = [], [], {}
    with ThreadPoolExecutor() as threads:
        for first in range(0, len(source), _CHUNK):
            chunk = source.__getitems__(range(first, min(first + _CHUNK, len(source))))
            encoded = [row.pop(image_key) for row in chunk]
            digests += threads.map(_digest, encoded)
            if None in fixed:
                for i, side in enumerate(threads.map(_sides, encoded), start=first):
                    shapes.setdefault((*side, fixed[-1]), i)
            rows += chunk
    if len(shapes) > 1:
        (one, i), (other, j), *_ = shapes.items()
        raise InputError(
            f"--data {name}: images differ in shape, {one} in row {i} and {other} in row {j}; "
            "choose a data set of equal images"
        )
    shape = next(iter(shapes), tuple(fixed))
    return rows, np.stack(digests), shape


def _digest(encoded: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(encoded).digest(), np.uint8)


def _sides(encoded: bytes) -> tuple[int, int]:
    """Return height and width, from the head of the file."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return image.height, image.width
