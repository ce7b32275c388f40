"""Every unlearning method behind one interface; `ltu/` is the paper."""

from ltu_jax.unlearners.base import (
    Choice,
    Config,
    LogUniform,
    Method,
    one_shot,
    spec_of,
    spec_of_split,
    toy_problem,
)
from ltu_jax.unlearners.gradient_method import SGDConfig
from ltu_jax.unlearners.registry import METHODS, configure, find, read_config
from ltu_jax.unlearners.rewind import with_rewind
from ltu_jax.unlearners.sampling import Epochs
from ltu_jax.unlearners.slow_weights import with_slow_weights

__all__ = [
    "METHODS",
    "Choice",
    "Config",
    "Epochs",
    "LogUniform",
    "Method",
    "SGDConfig",
    "configure",
    "find",
    "one_shot",
    "read_config",
    "spec_of",
    "spec_of_split",
    "toy_problem",
    "with_rewind",
    "with_slow_weights",
]
