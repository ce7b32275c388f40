"""The one loop, supervised training on top of it, and checkpoints."""
