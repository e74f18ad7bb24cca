"""Spellings of molecules: one molecule has many SMILES strings, and which of them is no matter.

Examples:
    >>> spelled_anew("CCO", 0) in {"CCO", "OCC", "C(C)O", "C(O)C"}  # doctest: +SKIP
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from random import Random

from isthmus.errors import IsthmusError

_LOOKED_AT = 20_000
"""Texts of which the tokenizer sees another spelling."""


def spelled_anew(smiles: str, seed: int) -> str:
    """Another SMILES string of the same molecule, from a random atom along a random way.

    References:
        Bjerrum 2017, "SMILES Enumeration as Data Augmentation for Neural Network Modeling of
        Molecules"; Arús-Pous et al. 2019, "Randomized SMILES strings improve the quality of
        molecular generative models".

    Raises:
        IsthmusError: RDKit is not installed, or the text is no molecule.
    """
    try:
        from rdkit import Chem
    except ImportError:
        raise IsthmusError(
            "data.randomised: RDKit is not installed; run: pip install 'isthmus[molecules]'"
        ) from None
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        raise IsthmusError(
            f"data.randomised: RDKit reads no molecule in {smiles!r}, expected SMILES strings; "
            "take this text out, or leave out --data.randomised"
        )
    # Seeds near one another make RDKit begin alike.
    own = Random(seed).randrange(1, 2**31 - 1)
    [other] = Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=own)
    return str(other)


def with_spellings(texts: Sequence[str]) -> list[str]:
    """The texts and other spellings of some, whose symbols a tokenizer has to know."""
    some = enumerate(islice(texts, _LOOKED_AT))
    return [*texts, *(spelled_anew(text, seed) for seed, text in some)]
