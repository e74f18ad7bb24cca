"""The one error that a user is meant to read."""


class IsthmusError(Exception):
    """Bad input, settings or files. One line: what, got, expected, remedy.

    The command line prints it without a traceback and exits with 1.
    """


def reason_of(error: BaseException, limit: int = 200) -> str:
    """What another library's error says, on one line: its type and the start of its text."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= limit else f"{text[:limit]} …"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
