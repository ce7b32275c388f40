"""Sequential deletion requests: the next request, the queue, the ledger and the drift."""
