"""Objectives for ``isthmus optimise RUN --objective examples/objectives.py:qed``.

Any function of a text that returns a number will do; None means that the text has none. Those of
molecules need RDKit: ``pip install 'isthmus[molecules]'``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def molecule(smiles: str) -> Any:
    """The molecule of a SMILES string; None if it is not valid."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():  # a line for each string that is not valid
        found = Chem.MolFromSmiles(smiles)
    return found if found is not None and found.GetNumAtoms() else None


def qed(smiles: str) -> float | None:
    """Drug-likeness, 0 to 1: a mean of eight desirabilities (Bickerton et al. 2012)."""
    from rdkit.Chem import QED

    found = molecule(smiles)
    return None if found is None else QED.qed(found)


def penalised_logp(smiles: str) -> float | None:
    """logP − synthetic accessibility − atoms beyond six of the largest ring.

    Gómez-Bombarelli et al. 2018, not normalised. The accessibility score (Ertl & Schuffenhauer
    2009) is a script in the folder Contrib that RDKit installs with itself.
    """
    from rdkit.Chem import Crippen, RDConfig

    folder = str(Path(RDConfig.RDContribDir) / "SA_Score")
    if folder not in sys.path:
        sys.path.append(folder)
    import sascorer

    found = molecule(smiles)
    if found is None:
        return None
    largest = max(map(len, found.GetRingInfo().AtomRings()), default=0)
    return Crippen.MolLogP(found) - sascorer.calculateScore(found) - max(0, largest - 6)


def length(text: str) -> int:
    """Words of a sentence."""
    return len(text.split())


def keywords(text: str) -> float:
    """Share of the words of a sentence that are about size or colour."""
    wanted = {"small", "large", "big", "tiny", "huge", "red", "blue", "green", "yellow"}
    words = text.split()
    return sum(word in wanted for word in words) / max(1, len(words))


def lengths(texts: list[str]) -> list[float]:
    """Characters of texts: a function of a list, as a classifier that reads batches would be."""
    return [float(len(text)) for text in texts]
