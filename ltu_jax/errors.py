"""The one exception that means: the caller's input is wrong, and nothing was computed."""


class InputError(ValueError):
    """Bad input, found before any compute.

    The message is one line that names the argument, the value it had and what to do. The command
    line prints it and exits with code 2; the library lets it propagate.
    """


class DivergedError(ArithmeticError):
    """A loss or parameter became NaN or infinite during a run."""
