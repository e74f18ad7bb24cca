"""The one error that a user is meant to read."""


class IsthmusError(Exception):
    """Bad input, settings or files. One line: what, got, expected, remedy.

    The command line prints it without a traceback and exits with 1.
    """
