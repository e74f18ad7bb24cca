"""Files that are compressed with gzip or Zstandard."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, final

from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK = 1 << 17


def plain_name(name: str) -> str:
    """A file's name in lower case, without the suffix that says how it is compressed."""
    lower = name.lower()
    return next((lower.removesuffix(end) for end in COMPRESSED if lower.endswith(end)), lower)


def check_packages(path: Path) -> None:
    """Refuse a file whose compression needs a package that is not installed."""
    if path.name.lower().endswith(".zst"):
        try:
            import zstandard  # noqa: F401
        except ModuleNotFoundError:
            raise IsthmusError(
                f"{path}: .zst needs the package zstandard, which is not installed; "
                "run: pip install 'isthmus[scale]'"
            ) from None


def content_of(path: Path) -> bytes:
    """All bytes of a file, decompressed.

    Raises:
        IsthmusError: The file cannot be read, or is not whole.
    """
    check_packages(path)
    ends = (end for end in COMPRESSED if path.name.lower().endswith(end))
    opener, kind = COMPRESSED.get(next(ends, ""), (lambda file: file, ""))
    try:
        with path.open("rb") as file:
            return opener(file).read()
    except EOFError:
        raise IsthmusError(f"{path}: the {kind} data end too early: download it again") from None
    except (gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise IsthmusError(
            f"{path} is not complete {kind} data ({error}): download it again, or drop the "
            f"{path.suffix} from its name if it is not compressed"
        ) from None
    except OSError as error:
        raise IsthmusError(f"{path} cannot be read: {error.strerror or error}") from None


def _gzip(file: BinaryIO) -> BinaryIO:
    return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]


def zstd(file: BinaryIO, mode: str = "rb") -> BinaryIO:
    """A file of Zstandard frames, opened to read what is in them, as fsspec asks for it."""
    return io.BufferedReader(_Frames(file))


@final
class _Frames(io.RawIOBase):
    """Zstandard frames, one behind the other; EOFError if the last is cut, as of gzip's.

    zstandard's own reader ends there as if it were the end, and texts would be lost in silence.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame: Any = None
        self._read = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer; 0 at the end of the last frame."""
        import zstandard

        while not self._read:
            over = self._frame is None or self._frame.eof
            block = (over and self._frame and self._frame.unused_data) or self._file.read(_BLOCK)
            if not block and over:
                return 0
            if not block:
                raise EOFError("the Zstandard data end too early")
            if over:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                self._read = self._frame.decompress(block)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from None
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._read))
        view[:count], self._read = self._read[:count], self._read[count:]
        return count


COMPRESSED: Final[dict[str, tuple[Callable[[BinaryIO], BinaryIO], str]]] = {
    ".gz": (_gzip, "gzip"),
    ".zst": (zstd, "Zstandard"),
}
"""Suffix → what opens such a file, and what it is called."""
