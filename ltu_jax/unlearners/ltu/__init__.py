"""Learning to Unlearn (arXiv 2407.10494): two meta-gradients and their harmonisation."""
