"""Data parallelism: steps on several devices with the results of one device.

Every device holds the whole state and a share of each batch. The global batch size does not depend
on the number of devices, so more devices change the time, not the result. Two ways agree:

- Sharded `jit`, the default. `split_batch` shards a sampled batch, and the compiler adds the
  communication. A batch that the devices do not divide is sharded over fewer of them, and the
  others repeat work: 12 examples on 8 devices are four shares, each on two devices.
- `pmap`, with explicit communication. A `gathered` model runs on the device's share of the inputs
  and gathers the outputs, so every loss sees the global batch, even one that is not a mean over
  examples. Gradients through it are averaged over devices, including the inner ones of
  meta-learning. A batch that the devices do not divide is padded; the padding is removed from the
  outputs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltu_jax.errors import InputError
from ltu_jax.training.compilation import jit
from ltu_jax.types import Array, Model, PyTree, Variables

AXIS = "batch"


class Parallel(NamedTuple):
    """Devices of a run.

    Attributes:
      mesh: one axis for each prime factor of the number of devices, so that a batch can be sharded
        over any divisor of that number.
      pmap: use `jax.pmap` instead of sharded `jit`; models must be `gathered`, otherwise every
        device does all of the work.
    """

    mesh: jax.sharding.Mesh
    pmap: bool = False


def over_devices(count: int | None = None, *, pmap: bool = False) -> Parallel | None:
    """Return the `Parallel` of `count` devices; None for a single one.

    Args:
      count: number of devices. None: all, including those of other hosts.
      pmap: see `Parallel`.

    Raises:
      InputError: there are fewer devices, or a run of several hosts does not use all of them.

    Example:
      >>> from ltu_jax.training.devices import over_devices
      >>> over_devices(1) is None
      True
    """
    devices = find_devices()
    if count is not None and not 1 <= count <= len(devices):
        problem = f"is {count}, but there are {len(devices)}"
        raise InputError("devices", problem, f"give 1 to {len(devices)}")
    if jax.process_count() > 1 and (pmap or count not in (None, len(devices))):
        problem = f"is {count}, but several hosts use all {len(devices)} devices by sharded jit"
        raise InputError("devices", problem, "leave it out")
    devices = devices[:count]
    if len(devices) == 1:
        return None
    factors = _prime_factors(len(devices))
    names = tuple(f"{AXIS}_{i}" for i in range(len(factors)))
    mesh = jax.make_mesh(factors, names, (AxisType.Auto,) * len(factors), devices=devices)
    return Parallel(mesh, pmap)


def find_devices() -> list[Any]:
    """Return all devices.

    Raises:
      InputError: JAX finds no device of the platform that it should use.
    """
    try:
        return jax.devices()
    except RuntimeError as error:
        raise no_backend(error) from error


def no_backend(error: RuntimeError) -> InputError:
    """Return the error of a platform that JAX cannot use."""
    asked = os.environ.get("JAX_PLATFORMS") or jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    reason = " ".join(str(error).split())[:200]
    return InputError(
        "JAX_PLATFORMS",
        f"is {asked}, which JAX cannot use here ({reason})",
        "unset it, or install that version of JAX",
    )


def replicate(tree: PyTree, parallel: Parallel) -> PyTree:
    """Return a copy of every array on every device; hosts must pass equal arrays."""
    everywhere = NamedSharding(parallel.mesh, PartitionSpec())

    def put(leaf: Array) -> jax.Array:
        if is_key(leaf):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        # The first step donates its input; the caller's arrays must survive.
        return jax.device_put(np.array(leaf), everywhere)

    return jax.tree.map(put, tree)


def collect(tree: PyTree) -> PyTree:
    """Return replicated arrays as uncommitted arrays of one device."""

    def fetch(leaf: jax.Array) -> jax.Array:
        if is_key(leaf):
            data = fetch(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jnp.asarray(np.asarray(leaf))

    return jax.tree.map(fetch, tree)


def split_batch(batch: PyTree, parallel: Parallel | None) -> PyTree:
    """Shard the leading axis of a batch's arrays over the devices; for use inside `jit`.

    Each array is sharded over as many axes of the mesh as divide it; scalars are replicated.
    """
    if parallel is None or parallel.pmap:
        return batch

    def shard(leaf: jax.Array) -> jax.Array:
        layout = batch_layout(len(leaf) if jnp.ndim(leaf) else 1, parallel)
        return jax.lax.with_sharding_constraint(leaf, layout)

    return jax.tree.map(shard, batch)


def batch_layout(size: int, parallel: Parallel) -> NamedSharding:
    """Return the sharding of the leading axis of a batch of `size`."""
    # With an uneven layout XLA pads the batch, and aborts on some programs.
    axes, shares = [], 1
    for name, count in parallel.mesh.shape.items():
        if size % (shares * count) == 0:
            axes.append(name)
            shares *= count
    return NamedSharding(parallel.mesh, PartitionSpec(tuple(axes)) if axes else PartitionSpec())


def compile_for(advance: Callable, parallel: Parallel | None) -> Callable:
    """Return `advance(count, key, first, state, data)`, compiled for the devices.

    `count` is static; `jit` donates `state`, `pmap` copies it.
    """
    if parallel is None or not parallel.pmap:
        return jit(advance, static_argnums=0, donate_argnums=3, out_shardings=whole(parallel))
    devices = list(parallel.mesh.devices.flat)
    mapped = jax.pmap(
        lambda index, *arguments: advance(*arguments),
        axis_name=AXIS,
        in_axes=(0, *[None] * 5),
        out_axes=None,
        devices=devices,
        static_broadcasted_argnums=1,
    )
    # All arguments are replicated, but pmap needs one to map over.
    return partial(mapped, np.arange(len(devices)))


def whole(parallel: Parallel | None) -> NamedSharding | None:
    """Return the sharding of results that every device holds; the compiler may choose others."""
    return parallel and NamedSharding(parallel.mesh, PartitionSpec())


def gathered(model: Model) -> Model:
    """Return `model` for use in `pmap`: each device computes its share and receives all outputs.

    Outside `pmap` it equals `model`. Training passes with interactions between examples (BatchNorm)
    or random numbers (dropout, augmentation) are not split: every device computes the whole pass.
    """

    def apply(variables: Variables, inputs: Array, *, train: bool = False, key=None):
        run = partial(model.apply, train=train, key=key)
        if not _in_pmap() or (train and not _splits(run, variables, inputs)):
            return run(variables, inputs)
        variables = variables._replace(params=_average_gradients(variables.params))
        logits, _ = run(variables, _share(inputs))
        return jax.lax.all_gather(logits, AXIS, tiled=True)[: len(inputs)], variables.state

    return Model(model.init, apply, model.name)


def _share(inputs: Array) -> jax.Array:
    """Return this device's rows of a global batch, padded by repeating its rows."""
    devices = jax.lax.axis_size(AXIS)
    size = -(-len(inputs) // devices)
    rows = jax.lax.axis_index(AXIS) * size + jnp.arange(size)
    return jnp.take(jnp.asarray(inputs), rows % len(inputs), axis=0)


@jax.custom_vjp
def _average_gradients(params: PyTree) -> PyTree:
    """Return `params`, with gradients averaged over devices.

    Every device differentiates the global loss through its share of the outputs. The transpose of
    the gather sums the devices' equal cotangents, so the mean is correct.
    """
    return params


_average_gradients.defvjp(
    lambda params: (params, None), lambda _, gradient: (jax.lax.pmean(gradient, AXIS),)
)


def _splits(run: Callable, variables: Variables, inputs: Array) -> bool:
    """Return whether a training pass treats examples independently and without random numbers."""
    if jax.tree.leaves(variables.state):
        return False
    return "random_bits" not in str(jax.make_jaxpr(run)(variables, inputs))


def _in_pmap() -> bool:
    try:
        jax.lax.axis_size(AXIS)
    except NameError:  # JAX's error for an axis that does not exist
        return False
    return True


def _prime_factors(number: int) -> tuple[int, ...]:
    for divisor in range(2, number + 1):
        if number % divisor == 0:
            return (divisor, *_prime_factors(number // divisor))
    return ()


def is_key(leaf: Array) -> bool:
    """Return whether an array holds typed random keys, which NumPy cannot represent."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
