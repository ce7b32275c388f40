"""What the forgetting branch of LTU matches; `ltu_jax.unlearners.ltu` has its public names."""
