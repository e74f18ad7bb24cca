"""Structures of molecules, drawn by RDKit, of texts that are SMILES strings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

from isthmus.errors import IsthmusError

LONGEST: Final = 400
"""Characters of a string that is drawn; the time for a drawing grows faster than its length."""
SIZE: Final = (240, 170)
"""Width and height in pixels."""
SHARE: Final = 0.9
"""Of the texts of a corpus that must be molecules."""
_LOOKED_AT: Final = 100
_SVG: Final = "{http://www.w3.org/2000/svg}"
_KEPT: Final = {
    "svg": {"width", "height", "viewBox"},
    "rect": {"x", "y", "width", "height", "style"},
    "path": {"d", "style", "fill"},
    "ellipse": {"cx", "cy", "rx", "ry", "style"},
}
"""What a drawing may consist of: no script, no link, no text."""


def are_molecules(texts: Sequence[str]) -> bool:
    """Whether RDKit is installed and reads nearly all of some texts, evenly chosen."""
    if not texts or find_spec("rdkit") is None:
        return False
    step = max(1, len(texts) // _LOOKED_AT)
    some = texts[::step][:_LOOKED_AT]
    return sum(_molecule(text) is not None for text in some) >= SHARE * len(some)


def address(text: str) -> str | None:
    """Where the page gets the drawing of a text; None if it is no molecule."""
    return None if _molecule(text) is None else f"api/structure?text={quote(text, safe='')}"


@lru_cache(maxsize=4096)
def drawing(text: str) -> bytes:
    """The structure of a SMILES string as SVG.

    Raises:
        IsthmusError: It is no molecule.
    """
    found = _molecule(text)
    if found is None:
        raise IsthmusError(f"text: got {text[:60]!r}, expected a SMILES string of a molecule")
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas = rdMolDraw2D.MolDraw2DSVG(*SIZE)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, found)
    canvas.FinishDrawing()
    return _sanitised(canvas.GetDrawingText())


def _molecule(text: str) -> Any:
    """The molecule of a text; None if there is none. RDKit would read a name behind a space."""
    if not text or len(text) > LONGEST or any(character.isspace() for character in text):
        return None
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        found = Chem.MolFromSmiles(text)
    return found if found is not None and found.GetNumAtoms() else None


def _sanitised(svg: str) -> bytes:
    """The drawing with nothing in it but shapes."""
    ElementTree.register_namespace("", _SVG[1:-1])
    given = ElementTree.fromstring(svg)
    clean = ElementTree.Element(f"{_SVG}svg", _allowed(given))
    for each in given.iter():
        if (
            each is not given
            and isinstance(each.tag, str)
            and each.tag.removeprefix(_SVG) in _KEPT
        ):
            ElementTree.SubElement(clean, each.tag, _allowed(each))
    return ElementTree.tostring(clean)


def _allowed(element: ElementTree.Element) -> dict[str, str]:
    known = _KEPT[element.tag.removeprefix(_SVG)]
    return {
        name: value
        for name, value in element.attrib.items()
        if name in known and "url(" not in value
    }
