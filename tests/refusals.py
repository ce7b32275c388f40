"""Assertions on input that is refused."""

from contextlib import contextmanager

import pytest

from ltu_jax.errors import InputError


@contextmanager
def refused(argument, *values):
    """Expect an `InputError` on one line that names `argument` and shows each of `values`."""
    with pytest.raises(InputError) as caught:
        yield caught
    error = caught.value
    assert error.argument == argument
    assert error.problem
    assert error.remedy
    assert "\n" not in str(error)
    for value in values:
        assert value in str(error)
