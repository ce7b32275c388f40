"""Machine unlearning for JAX: ids in, an unlearned checkpoint and an audit out."""
