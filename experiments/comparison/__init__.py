"""Methods compared on the same deletions, and the claims of the paper."""
