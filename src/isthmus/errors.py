"""The one error that a user is meant to read, and how a text keeps to one line."""

from collections.abc import Iterator
from contextlib import contextmanager

_BREAKS = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})


def one_line(text: str) -> str:
    r"""A text with its line breaks and tabs written as \n, \r and \t."""
    return text.translate(_BREAKS)


class IsthmusError(Exception):
    """Bad input, settings or files. One line: what, got, expected, remedy.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def reason_of(error: BaseException, limit: int = 200) -> str:
    """What another library's error says, on one line: its type and the start of its text."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= limit else f"{text[:limit]} …"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


@contextmanager
def in_one_line(what: str, remedy: str) -> Iterator[None]:
    """Turn any error of a library's code inside the block into an `IsthmusError`, with its reason.

    Args:
        what: What failed.
        remedy: What to do.
    """
    try:
        yield
    except IsthmusError:
        raise
    except Exception as error:  # what a library raises is never all documented
        raise IsthmusError(f"{what} ({reason_of(error)}); {remedy}") from error
