"""Training sets that stay on disk: images are read and decoded on access.

Memory holds a digest, the label and the id of every image. The images are those of a TFDS data set
prepared as array_record, which many threads can read in any order.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ltu_jax.errors import InputError
from ltu_jax.files import digest
from ltu_jax.types import Array

_CHUNK = 1024  # encoded records in memory at once in `scan`


class OnDisk:
    """The inputs `[N, H, W, C]` of a training set that is not in memory.

    It has an array's length, shape and dtype, and `[rows]` reads those rows. Conversion to an array
    raises an error, so that no code loads all images by mistake.

    Args:
      source: from rows to encoded images, as `__getitems__` of TFDS's data sources.
      decode: from an encoded image to its array.
      rows: `[N]`, rows of the source.
      digests: `[N, 32]` bytes, the SHA-256 of each encoded image.
      shape: `(H, W, C)` of every image.

    Attributes:
      digests: see above.
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
        """Raise `InputError`."""
        problem = f"is True, but this needs all {len(self)} training images in memory"
        raise InputError("stream", problem, "leave it out, or give a smaller `train_size`")

    def take(self, rows: np.ndarray) -> OnDisk:
        """Return these rows, still on disk."""
        return OnDisk(
            self._source, self._decode, self._rows[rows], self.digests[rows], self.shape[1:]
        )


def content(inputs: Array | OnDisk) -> Array:
    """Return an array that identifies inputs: the inputs, or digests of images on disk."""
    return inputs.digests if isinstance(inputs, OnDisk) else inputs


def scan(
    name: str, source: Any, image_key: str, fixed: Sequence[int | None]
) -> tuple[list[dict[str, Any]], np.ndarray, tuple[int, ...]]:
    """Read a data source once and return everything except its images.

    Args:
      name: of the data set, for errors.
      source: a TFDS data source that does not decode images.
      image_key: column of the image.
      fixed: declared `(H, W, C)`; None where it is not declared.

    Returns:
      The rows without their images, the digests `[N, 32]` and the shape of the images.

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
        problem = f"{name} has images of {one} in row {i} and {other} in row {j}"
        raise InputError("data", problem, "choose images of one shape")
    shape = next(iter(shapes), tuple(side for side in fixed if side is not None))
    return rows, np.stack(digests), shape


def _digest(encoded: bytes) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(digest(encoded)), np.uint8)


def _sides(encoded: bytes) -> tuple[int, int]:
    """Return height and width from the image's header."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return image.height, image.width
