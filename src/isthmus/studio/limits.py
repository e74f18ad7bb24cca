"""What a client may ask for: every size is bounded, and what is beyond is refused in one line."""

from __future__ import annotations

import base64
import binascii
import io
import re
import unicodedata
from typing import TYPE_CHECKING, Final

from isthmus.errors import IsthmusError

if TYPE_CHECKING:
    from isthmus.data.pictures.files import Picture

BODY: Final = 256 * 1024
"""Bytes of a request."""
PICTURE_BODY: Final = 12 * 1024 * 1024
"""Bytes of a request that may hold a picture."""
PIXELS: Final = 16_000_000
"""Of a picture, before it is brought to the size of the run's."""
TEXT: Final = 2000
"""Characters of a text."""
BATCH: Final = 64
"""Texts or latents in one request."""
STEPS: Final = 32
"""Points between the ends of a walk."""
NEW_TOKENS: Final = 128
"""Longest text that is written."""
FAR: Final = 1000.0
"""Largest number in a latent; the spread of a dimension is around 1."""
LISTED: Final = 500
"""Texts of the corpus in one answer."""
CORPUS: Final = 200_000
"""Points of the map."""
QUEUE: Final = 256
"""Model calls that wait."""

PICTURE_FORMS: Final = ("PNG", "JPEG", "WEBP")
_DATA_URL = re.compile(r"data:image/[a-z+.-]{1,20};base64,")


def check_text(text: str) -> str:
    """A text as it is, if a model can be given it.

    Raises:
        IsthmusError: it is empty, too long, or has characters that are none.
    """
    if len(text) > TEXT:
        raise IsthmusError(
            f"text: got {len(text):,} characters, expected {TEXT:,} at most; shorten it"
        )
    if not text.strip():
        raise IsthmusError("text: got an empty one, expected some words")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise IsthmusError(
                f"text: got the control character U+{ord(character):04X}, expected characters "
                "that can be read; remove it"
            )
    return text


def is_address(given: str) -> bool:
    """Whether an input is meant to be a picture."""
    return given.startswith("data:")


def read_picture(address: str) -> Picture:
    """The picture [C H W] in a data URL.

    Raises:
        IsthmusError: no such address, or no picture, or one too large.
    """
    found = _DATA_URL.match(address)
    if found is None:
        raise IsthmusError(
            f"picture: got {address[:40]!r}, expected data:image/png;base64,… (PNG, JPEG, WebP)"
        )
    try:
        content = base64.b64decode(address[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise IsthmusError(f"picture: its base64 is damaged ({error}); send it again") from None
    from isthmus.data.pictures.files import read_open

    try:
        return read_open(io.BytesIO(content), PICTURE_FORMS, PIXELS).picture
    except IsthmusError as error:
        raise IsthmusError(f"picture: {error}") from None
