"""An example of several kinds at once: a picture, its caption, its label, or only some of them."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.data.pictures.files import Picture


@dataclass(frozen=True, eq=False)
class Example:
    """What is known of one thing; a part that is not known is None.

    Arguments:
        picture: levels 0 … 255, uint8 [C H W].
        caption: a text.
        label: the name of a class.
    """

    picture: Picture | None = None
    caption: str | None = None
    label: str | None = None
