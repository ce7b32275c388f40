"""Sequential requests: the next deletion, the queue of requests, the ledger and the drift."""
