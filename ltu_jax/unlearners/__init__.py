"""Every unlearning method behind one interface; `ltu/` is the paper."""

from ltu_jax.unlearners.base import Choice, LogUniform, Method
from ltu_jax.unlearners.registry import METHODS, configure, find, read_config

__all__ = ["METHODS", "Choice", "LogUniform", "Method", "configure", "find", "read_config"]
