"""Models as pairs of pure functions: built-in, Flax or hand-written."""

from ltu_jax.models.flax_linen import from_linen
from ltu_jax.models.flax_nnx import from_nnx, nnx_state, nnx_variables, update_nnx
from ltu_jax.models.functional import (
    count_params,
    from_functions,
    in_bfloat16,
    with_preprocessing,
)
from ltu_jax.models.heads import binary_head
from ltu_jax.models.safetensors import load_safetensors
from ltu_jax.models.training_pass import check_training_pass
from ltu_jax.models.zoo import MODELS, build, holds_arrays, wrap

__all__ = [
    "MODELS",
    "binary_head",
    "build",
    "check_training_pass",
    "count_params",
    "from_functions",
    "from_linen",
    "from_nnx",
    "holds_arrays",
    "in_bfloat16",
    "load_safetensors",
    "nnx_state",
    "nnx_variables",
    "update_nnx",
    "with_preprocessing",
    "wrap",
]
