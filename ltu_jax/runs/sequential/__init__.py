"""Sequential requests: the next deletion, the queue of requests, the ledger and the drift."""

from ltu_jax.runs.sequential import drift, ledger

__all__ = ["drift", "ledger"]
