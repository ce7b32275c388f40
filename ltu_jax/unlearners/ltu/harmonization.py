r"""Gradient harmonisation: one direction from a remembering and a forgetting gradient.

Where two gradients conflict, :math:`\langle g, r\rangle < 0`, the part of :math:`g` that points
against :math:`r` is projected away,

.. math:: g \leftarrow g - \min(\langle g, \hat r\rangle, 0)\, \hat r, \qquad \hat r = r / |r|.

Two-way projection (both rows, each off the *original* other) is PCGrad (Yu et al., 2001.06782);
one-way projection is A-GEM (Chaudhry et al., 1812.00420).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ltu_jax.errors import InputError
from ltu_jax.types import PyTree

HarmonisationMode = Literal["two-way", "per-layer", "protect-retain", "protect-forget", "none"]


class Conflict(NamedTuple):
    """Angle and norms of the two gradients.

    Attributes:
      cosine: cosine of their angle over all parameters; 0 if one vanishes.
      conflict: 1.0 if the cosine is negative, else 0.0.
      norms: `[2]` norms of the remembering and the forgetting gradient.
    """

    cosine: jax.Array
    conflict: jax.Array
    norms: jax.Array


def harmonize(
    remember: PyTree, forget: PyTree, mode: HarmonisationMode = "two-way"
) -> tuple[PyTree, Conflict]:
    """Combine the two gradients into one direction.

    Args:
      remember: gradient of the remembering branch.
      forget: gradient of the forgetting branch, same structure.
      mode: `"two-way"` projects each off the other: the sum conflicts with neither. `"per-layer"`
        does that separately for every parameter tensor. `"protect-retain"` projects the forgetting
        gradient only, `"protect-forget"` the remembering gradient only: the sum may then still
        conflict with the one that was projected. `"none"` adds them.

    Returns:
      The direction and `Conflict`.

    Raises:
      InputError: `mode` is none of the above.

    Example:
      >>> import jax.numpy as jnp
      >>> from ltu_jax.unlearners.ltu import harmonize
      >>> direction, _ = harmonize(jnp.array([1.0, 0.0]), jnp.array([-1.0, 1.0]))
      >>> direction
      Array([0.5, 1.5], dtype=float32)

    References:
      Yu et al., *Gradient surgery for multi-task learning*, arXiv 2001.06782.
    """
    if mode not in get_args(HarmonisationMode):
        options = ", ".join(get_args(HarmonisationMode))
        raise InputError("harmonize", f"is {mode!r}", f"choose one of {options}")
    whole = _measure(remember, forget)
    if mode == "per-layer":
        direction = jax.tree.map(
            lambda r, f: _join(r, f, _measure(r, f), "two-way"), remember, forget
        )
    else:
        (flat, unravel), (other, _) = ravel_pytree(remember), ravel_pytree(forget)
        direction = unravel(_join(flat, other, whole, mode))
    conflict = (whole.cosine < 0).astype(jnp.float32)
    return direction, Conflict(whole.cosine, conflict, whole.norms)


def project(gradient: PyTree, reference: PyTree) -> PyTree:
    """Return `gradient` without its component against `reference`.

    Finite for zero, tiny and huge input: both are scaled to entries of at most 1 before squares are
    taken. A zero reference leaves the gradient unchanged.
    """
    unit = _unit(reference)
    scaled, scale = _scale_to_one(gradient)
    against = jnp.minimum(optax.tree.vdot(scaled, unit), 0.0)
    return jax.tree.map(lambda g, r: scale * (g - against * r), scaled, unit)


def project_conflicts(gradients: PyTree, order: jax.Array | None = None) -> PyTree:
    """Project every row off all others, one after another (PCGrad).

    Args:
      gradients: leaves `[m, ...]`, one row for each task.
      order: `[m, m]` integers; row `i` is projected in the order `order[i]`, without itself.
        PCGrad draws it at random; two rows do not depend on it. `None` is 0, 1, ... m - 1.

    Returns:
      The projected rows, leaves `[m, ...]`; PCGrad's direction is their sum.
    """
    rows = len(jax.tree.leaves(gradients)[0])
    if order is None:
        order = jnp.broadcast_to(jnp.arange(rows), (rows, rows))

    def off_all_others(row, own, others):
        for other in others:
            # After a projection, rounding errors could make a row conflict with itself.
            reference = jax.tree.map(lambda g: jnp.where(other == own, 0, g[other]), gradients)  # noqa: B023
            row = project(row, reference)
        return row

    return jax.vmap(off_all_others)(gradients, jnp.arange(rows), jnp.asarray(order))


class _Gram(NamedTuple):
    """The products of two gradients, each scaled to entries of at most 1.

    Attributes:
      scales: `[2]` largest absolute entries, by which they were divided; 1 for a zero gradient.
      squares: `[2]` inner product of each with itself.
      product: inner product of the two.
    """

    scales: jax.Array
    squares: jax.Array
    product: jax.Array

    @property
    def norms(self) -> jax.Array:
        return self.scales * jnp.sqrt(self.squares)

    @property
    def divisors(self) -> jax.Array:
        return jnp.where(self.squares > 0, self.squares, 1.0)

    @property
    def cosine(self) -> jax.Array:
        return self.product / jnp.sqrt(self.divisors.prod())


def _measure(remember: PyTree, forget: PyTree) -> _Gram:
    pair = jnp.stack([ravel_pytree(tree)[0] for tree in (remember, forget)])
    largest = jnp.max(jnp.abs(pair), axis=1)
    scales = jnp.where(largest > 0, largest, 1.0)
    scaled = pair / scales[:, None]
    # XLA:CPU takes 30 times as long for the product of two such narrow matrices.
    return _Gram(scales, jnp.sum(scaled**2, axis=1), jnp.sum(scaled[0] * scaled[1]))


def _join(remember: PyTree, forget: PyTree, gram: _Gram, mode: HarmonisationMode) -> PyTree:
    r"""Return the sum after projection, in one pass over the entries.

    To project :math:`f` off :math:`r` is to add :math:`-\min(\langle f, r\rangle, 0) / |r|^2` times
    :math:`r`. `project_conflicts` is the definition.
    """
    projected_off = {"two-way": (1, 1), "protect-retain": (1, 0), "protect-forget": (0, 1)}
    chosen = jnp.array(projected_off.get(mode, (0, 0)), gram.squares.dtype)
    weights = -jnp.minimum(gram.product, 0.0) / gram.divisors * gram.scales[::-1] * chosen
    return jax.tree.map(
        lambda r, f: r + f + weights[0] * (r / gram.scales[0]) + weights[1] * (f / gram.scales[1]),
        remember,
        forget,
    )


def _scale_to_one(tree: PyTree) -> tuple[PyTree, jax.Array]:
    largest = optax.tree.norm(tree, ord="inf")
    scale = jnp.where(largest > 0, largest, 1.0)
    return jax.tree.map(lambda x: x / scale, tree), scale


def _unit(tree: PyTree) -> PyTree:
    scaled, _ = _scale_to_one(tree)
    norm = optax.tree.norm(scaled)
    return jax.tree.map(lambda x: x / jnp.where(norm > 0, norm, 1.0), scaled)
