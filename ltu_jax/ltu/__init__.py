"""Learning to Unlearn (arXiv 2407.10494): sampling, membership models, meta scheme, harmonizer."""
