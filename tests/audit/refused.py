"""Expected errors, by the argument that they name."""

from contextlib import contextmanager

import pytest

from ltu_jax.errors import InputError


@contextmanager
def refused(argument):
    """Expect an `InputError` about that argument."""
    with pytest.raises(InputError) as caught:
        yield
    assert caught.value.argument == argument
