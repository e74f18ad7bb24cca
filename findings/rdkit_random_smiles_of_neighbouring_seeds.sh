#!/usr/bin/env bash
# RDKit 2026.9.1: random SMILES of neighbouring seeds are not independent of each other.
#
# MolToRandomSmilesVect(molecule, 1, randomSeed=s) with s = 1, 2, 3, … is the obvious way to draw one
# repeatable random spelling for each example of a data set, or for each epoch. One would guess that
# the draws of different seeds are independent. For a small molecule the spellings repeat with a short
# period in s, and some never come for a whole residue class of seeds: whoever seeds with an index or
# an epoch number sees part of the spellings only.
#
# Remedy: draw large seeds from another generator, or draw all spellings of a molecule in one call.
#
# Output seen ("does the spelling have a backslash?" for seeds 1 to 20, then how many of 100 have one):
#   TTFFFTTFFFTTFFFTTFFF
#   seeds 4, 9, 14, …: 0
#   seeds from a generator: between 20 and 80
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rdkit==2026.9.1
"$folder/venv/bin/python" - <<'PYTHON'
import random
import sys

from rdkit import Chem

molecule = Chem.MolFromSmiles("C/C=C/CCl")


def marked(seed: int) -> bool:
    return "\\" in Chem.MolToRandomSmilesVect(molecule, 1, randomSeed=seed)[0]


first = "".join("FT"[marked(seed)] for seed in range(1, 21))
print(first)
every_fifth = sum(marked(4 + 5 * step) for step in range(100))
print("seeds 4, 9, 14, …:", every_fifth)
draws = random.Random(0)
spread = sum(marked(draws.randrange(1, 2**31)) for _ in range(100))
print("seeds from a generator:", spread)
sys.exit(not (first == first[:5] * 4 and every_fifth == 0 and 20 < spread < 80))
PYTHON
