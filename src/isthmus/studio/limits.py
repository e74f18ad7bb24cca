"""Bounds on what a client may ask for; what exceeds them is refused in one line."""

from __future__ import annotations

import base64
import binascii
import io
import re
import unicodedata
from typing import Final

from isthmus.data.pictures.files import Picture, read_open
from isthmus.errors import IsthmusError

BODY: Final = 256 * 1024
"""Most bytes of a request."""
PICTURE_BODY: Final = 12 * 1024 * 1024
"""Most bytes of a request that may hold a picture."""
PIXELS: Final = 16_000_000
"""Most pixels of a picture, before it is scaled to the size that the run reads."""
TEXT: Final = 2000
"""Most characters of a text."""
BATCH: Final = 64
"""Most texts or latents in one request."""
STEPS: Final = 32
"""Most points between the ends of a walk."""
NEW_TOKENS: Final = 128
"""Most tokens of a decoded text."""
FAR: Final = 1000.0
"""Largest number in a latent; the spread of a dimension is around 1."""
LISTED: Final = 500
"""Most texts of the corpus in one answer."""
CORPUS: Final = 200_000
"""Most points on the map."""
QUEUE: Final = 256
"""Most model calls that wait."""

PICTURE_FORMS: Final = ("PNG", "JPEG", "WEBP")
_DATA_URL = re.compile(r"data:image/[a-z+.-]{1,20};base64,")


def check_text(text: str) -> str:
    """Return the text unchanged if a model can read it.

    Raises:
        IsthmusError: It is empty, too long, or has control characters.
    """
    if len(text) > TEXT:
        raise IsthmusError(
            f"text: got {len(text):,} characters, expected {TEXT:,} at most; shorten it"
        )
    if not text.strip():
        raise IsthmusError("text: got an empty text, expected some words")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t":
            raise IsthmusError(
                f"text: got the control character U+{ord(character):04X}, expected "
                "readable characters; remove it"
            )
    return text


def is_address(given: str) -> bool:
    """Whether an input is a data URL, and so a picture."""
    return given.startswith("data:")


def read_picture(address: str) -> Picture:
    """The picture [C H W] in a data URL.

    Raises:
        IsthmusError: Not a data URL, not a picture, or one too large.
    """
    found = _DATA_URL.match(address)
    if found is None:
        raise IsthmusError(
            f"picture: got {address[:40]!r}, expected data:image/png;base64,… (PNG, JPEG, WebP)"
        )
    try:
        content = base64.b64decode(address[found.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise IsthmusError(f"picture: got damaged base64 ({error}); send it again") from None
    try:
        return read_open(io.BytesIO(content), PICTURE_FORMS, PIXELS).picture
    except IsthmusError as error:
        raise IsthmusError(f"picture: {error}") from None
