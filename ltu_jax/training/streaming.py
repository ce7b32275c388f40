"""Batches of a training set on disk, read by grain while the device computes.

Batches equal those of the same set in memory: batch t depends on the key and t only, not on the
number of threads or hosts, and resumed runs read the same batches. Every host reads its share of
each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np

from ltu_jax.training.devices import Parallel, batch_layout
from ltu_jax.types import Array, Examples

THREADS, AHEAD = 8, 16  # reading threads; batches read ahead


def batches(
    examples: Examples,
    batch_size: int,
    rows_of: Callable[[int], np.ndarray],
    num_steps: int,
    *,
    parallel: Parallel | None = None,
    threads: int = THREADS,
) -> Callable[[int], Iterator[Examples]]:
    """Return the `feed` of `loop.run`: from a first step to the batches from it on, on the device.

    Args:
      examples: inputs with `[rows]`, such as `data.on_disk.OnDisk`, and labels.
      batch_size: of the global batch over all devices and hosts.
      rows_of: from a step to the rows `[batch_size]` of its batch.
      num_steps: number of batches.
      parallel: devices that share each batch.
      threads: number of batches read concurrently.
    """
    import grain

    layout = None if parallel is None or parallel.pmap else batch_layout(batch_size, parallel)
    share = slice(None) if layout is None else _share(layout, batch_size)

    def read(step: int) -> Examples:
        rows = rows_of(step)[share]
        return Examples(examples.inputs[rows], examples.labels[rows])

    def place(array: Array) -> jax.Array:
        if layout is None:
            return jax.device_put(array)
        shape = (batch_size, *array.shape[1:])
        return jax.make_array_from_process_local_data(layout, array, shape)

    def feed(first: int) -> Iterator[Examples]:
        # Compiled here: threads that compile it at once read each other's half-written cache files.
        rows_of(first)
        steps = grain.MapDataset.range(first, num_steps).map(read)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=AHEAD)
        for batch in steps.to_iter_dataset(options):
            yield Examples(place(batch.inputs), place(batch.labels))

    return feed


def _share(layout: jax.sharding.NamedSharding, size: int) -> slice:
    """Return the rows of a batch on this host's devices, which are contiguous in a mesh."""
    (parts,) = zip(*layout.addressable_devices_indices_map((size,)).values(), strict=True)
    bounds = [part.indices(size)[:2] for part in parts]
    return slice(min(low for low, _ in bounds), max(high for _, high in bounds))
