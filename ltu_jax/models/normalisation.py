"""Batch normalisation whose sums over examples and pixels are matrix products on a CPU."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    r"""Flax's `BatchNorm` over the last axis, with the same parameters and statistics.

    With :math:`a = \gamma / \sqrt{\sigma^2 + \epsilon}` the outputs are
    :math:`x a + (\beta - \mu a)`, so that a gradient keeps the inputs alone.

    Attributes:
      use_running_average: normalise with the stored statistics, not with those of the batch.
      momentum: share of the stored statistics that an update keeps.
      epsilon: added to the variance.
    """

    use_running_average: bool
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map inputs `[..., C]` to normalised inputs of the same shape."""
        channels = inputs.shape[-1:]
        means = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variances = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        flat = inputs.reshape(-1, *channels)
        if self.use_running_average:
            mean, variance = means.value, variances.value
        else:
            wide = flat.astype(jnp.promote_types(flat.dtype, jnp.float32))
            mean = column_sum(wide) / len(wide)
            variance = jnp.maximum(column_sum(wide * wide) / len(wide) - mean * mean, 0.0)
            if not self.is_initializing():
                means.value = self._updated(means.value, mean)
                variances.value = self._updated(variances.value, variance)
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        outputs = flat * _rows(factor, flat) + _rows(bias - mean * factor, flat)
        return outputs.reshape(inputs.shape).astype(jnp.result_type(inputs, scale, bias))

    def _updated(self, stored: jax.Array, new: jax.Array) -> jax.Array:
        return self.momentum * stored + (1 - self.momentum) * new


def column_sum(flat: jax.Array) -> jax.Array:
    """Return the sums `[C]` of the columns of `[n, C]`.

    XLA:CPU compiles a long sum of columns to a loop that is several times slower than the product
    with a row of ones (`experiments.performance.benchmark --parts operations`).
    """
    if jax.default_backend() != "cpu":
        return flat.sum(0)
    return (jnp.ones((1, len(flat)), flat.dtype) @ flat)[0]


def _rows(vector: jax.Array, flat: jax.Array) -> jax.Array:
    """Return `[C]` as every row of an array like `flat`; a gradient sums as `column_sum` does."""
    if jax.default_backend() != "cpu":
        return jnp.broadcast_to(vector, flat.shape)
    return jnp.ones((len(flat), 1), vector.dtype) @ vector[None]
