"""`python -m ltu_jax` is the console command `ltu`."""

from ltu_jax.cli.main import main

if __name__ == "__main__":
    main()
