"""Many requests in a row, and runs that are interrupted."""
