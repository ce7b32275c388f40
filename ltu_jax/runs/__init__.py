"""One deletion, a grid of them, or a sequence: planned, carried out, kept in a folder."""
