"""Sequential requests: the next deletion, the queue of requests, the ledger and the drift."""

__all__ = ["drift", "ledger", "queue", "unlearn_next"]
