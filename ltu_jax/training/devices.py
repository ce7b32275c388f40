"""One step on many devices: the same numbers as on one, each device with a share of the batch.

Data parallelism: every device has the whole state, and a share of the examples that a step looks
at. The batch is that of one device, whatever their number: more devices change the time, not the
result. There are two ways, which agree:

- Sharded `jit`, the default. `split_batch` lays a sampled batch over the devices; the compiler
  follows it through the step and puts in the communication. A batch that the devices do not divide
  is laid over fewer of them, and the others repeat their work: 12 examples on 8 devices are four
  shares, each of them on two devices.
- `pmap`, with explicit communication. `gathered` makes a network that runs on a device's share of
  the inputs and gathers the outputs, so every loss sees the global batch, also one that is no mean
  over examples; every gradient taken through it is averaged over devices, the inner ones of
  meta-learning included. A batch that the devices do not divide is padded, and what pads it is
  cut off from the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltu_jax.errors import InputError
from ltu_jax.training.compilation import jit
from ltu_jax.types import Array, Model, PyTree, Variables

AXIS = "batch"


class Parallel(NamedTuple):
    """Over which devices a run goes, and how.

    Attributes:
      mesh: one axis for each prime factor of the number of devices, so that a batch can be laid
        over any divisor of that number.
      pmap: explicit averages by `jax.pmap` in place of sharded `jit`; networks must be `gathered`,
        or else every device does all of the work.
    """

    mesh: jax.sharding.Mesh
    pmap: bool = False


def over_devices(count: int | None = None, *, pmap: bool = False) -> Parallel | None:
    """Return how to run on `count` devices; None where that is a single one.

    Args:
      count: None takes all devices, those of other hosts included.
      pmap: see `Parallel`.

    Raises:
      InputError: there are not so many devices, or not all are taken in a run of several hosts.

    Example:
      >>> from ltu_jax.training.devices import over_devices
      >>> over_devices(1) is None
      True
    """
    devices = jax.devices()
    if count is not None and not 1 <= count <= len(devices):
        raise InputError(f"--devices {count}: there are {len(devices)}; give 1 to {len(devices)}")
    if jax.process_count() > 1 and (pmap or count not in (None, len(devices))):
        raise InputError(
            f"--devices {count}: several hosts share one run on all {len(devices)} devices, "
            "by sharded jit; leave it out"
        )
    devices = devices[:count]
    if len(devices) == 1:
        return None
    factors = _prime_factors(len(devices))
    names = tuple(f"{AXIS}_{i}" for i in range(len(factors)))
    mesh = jax.make_mesh(factors, names, (AxisType.Auto,) * len(factors), devices=devices)
    return Parallel(mesh, pmap)


def replicate(tree: PyTree, parallel: Parallel) -> PyTree:
    """Return a copy of every array on every device; several hosts must give equal arrays."""
    everywhere = NamedSharding(parallel.mesh, PartitionSpec())

    def put(leaf: Array) -> jax.Array:
        if is_key(leaf):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        # The copy is donated to the first step; what the caller has must survive that.
        return jax.device_put(np.array(leaf), everywhere)

    return jax.tree.map(put, tree)


def collect(tree: PyTree) -> PyTree:
    """Return arrays that are on every device as arrays of one, bound to none."""

    def fetch(leaf: jax.Array) -> jax.Array:
        if is_key(leaf):
            data = fetch(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jnp.asarray(np.asarray(leaf))

    return jax.tree.map(fetch, tree)


def split_batch(batch: PyTree, parallel: Parallel | None) -> PyTree:
    """Lay the leading axis of a batch's arrays over the devices; for use inside `jit`.

    Each array by itself goes over as many of the mesh's axes as divide it; scalars stay whole.
    """
    if parallel is None or parallel.pmap:
        return batch

    def lay(leaf: jax.Array) -> jax.Array:
        layout = batch_layout(len(leaf) if jnp.ndim(leaf) else 1, parallel)
        return jax.lax.with_sharding_constraint(leaf, layout)

    return jax.tree.map(lay, batch)


def batch_layout(size: int, parallel: Parallel) -> NamedSharding:
    """Return how the leading axis of a batch of `size` lies over the devices."""
    # An uneven layout would leave the padding to XLA, which aborts on some programs.
    axes, shares = [], 1
    for name, count in parallel.mesh.shape.items():
        if size % (shares * count) == 0:
            axes.append(name)
            shares *= count
    return NamedSharding(parallel.mesh, PartitionSpec(tuple(axes)) if axes else PartitionSpec())


def compile_for(advance: Callable, parallel: Parallel | None) -> Callable:
    """Return `advance(count, key, first, state, data)`, compiled for the devices.

    `count` is static; `state` is donated, but not by `pmap`, which copies it.
    """
    if parallel is None or not parallel.pmap:
        # Left to itself the compiler may hand back a state that is cut up.
        whole = parallel and NamedSharding(parallel.mesh, PartitionSpec())
        return jit(advance, static_argnums=0, donate_argnums=3, out_shardings=whole)
    devices = list(parallel.mesh.devices.flat)
    mapped = jax.pmap(
        lambda index, *arguments: advance(*arguments),
        axis_name=AXIS,
        in_axes=(0, *[None] * 5),
        out_axes=None,
        devices=devices,
        static_broadcasted_argnums=1,
    )
    # Everything is the same on all devices, but pmap wants something to map over.
    return partial(mapped, np.arange(len(devices)))


def gathered(model: Model) -> Model:
    """Return `model` for use in `pmap`: a device's share of the inputs in, all outputs out.

    Outside `pmap` it is `model` itself. A training pass in which examples meet (BatchNorm) or that
    draws random numbers (dropout, augmentation) is not split: every device runs the whole of it.
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
    """Return this device's rows of a global batch, which is padded with rows of its own."""
    devices = jax.lax.axis_size(AXIS)
    size = -(-len(inputs) // devices)
    rows = jax.lax.axis_index(AXIS) * size + jnp.arange(size)
    return jnp.take(jnp.asarray(inputs), rows % len(inputs), axis=0)


@jax.custom_vjp
def _average_gradients(params: PyTree) -> PyTree:
    """Return `params`; gradients that come back through here are averaged over devices.

    Every device differentiates the same global loss through its own share of the outputs. The
    transpose of the gathering adds up the devices' equal cotangents, so the mean is what remains.
    """
    return params


_average_gradients.defvjp(
    lambda params: (params, None), lambda _, gradient: (jax.lax.pmean(gradient, AXIS),)
)


def _splits(run: Callable, variables: Variables, inputs: Array) -> bool:
    """Whether a training pass treats every example by itself, without random numbers."""
    if jax.tree.leaves(variables.state):
        return False
    return "random_bits" not in str(jax.make_jaxpr(run)(variables, inputs))


def _in_pmap() -> bool:
    try:
        jax.lax.axis_size(AXIS)
    except NameError:  # how JAX says that there is no such axis here
        return False
    return True


def _prime_factors(number: int) -> tuple[int, ...]:
    for divisor in range(2, number + 1):
        if number % divisor == 0:
            return (divisor, *_prime_factors(number // divisor))
    return ()


def is_key(leaf: Array) -> bool:
    """Whether an array holds typed random keys, which NumPy cannot."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
