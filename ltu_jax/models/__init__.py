"""Networks as pairs of pure functions: the built-in ones, and any Flax or hand-written one."""

from ltu_jax.models.convolution import Conv
from ltu_jax.models.functional import (
    count_params,
    from_functions,
    from_linen,
    from_nnx,
    with_preprocessing,
)
from ltu_jax.models.zoo import MODELS, build

__all__ = [
    "MODELS",
    "Conv",
    "build",
    "count_params",
    "from_functions",
    "from_linen",
    "from_nnx",
    "with_preprocessing",
]
