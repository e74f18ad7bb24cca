"""The recipes of strings without words: they train, and figures are in units that strings have."""

from __future__ import annotations

import pytest

import isthmus
from isthmus.errors import IsthmusError

ENDS = ["Br", "Cl", "C", "N", "O", "S", "F", "CC"]
RINGS = ["c1ccccc1", "C1CCNCC1", "c1cc[nH]c1", "c1ccsc1"]
MOLECULES = [a + ring + b for a in ENDS for ring in RINGS for b in ENDS]
LABELS = ["heavy" if "Br" in text else "light" for text in MOLECULES]
SHORT = {"steps": 2, "evaluations": 1, "validation": 20, "fit_prior": 0.0}


def test_molecules_are_read_by_their_symbols_and_written_under_a_label():
    space = isthmus.fit(
        MOLECULES, recipe="molecules", labels=LABELS, train=SHORT, model={"labels": "given"}
    )
    assert space.size == 64  # the summary
    assert space.metrics["ppl_word"] is None
    assert space.metrics["unknown_tokens"] == space.metrics["cut"] == 0
    assert space.metrics["summary_bits_per_character"] > 0
    assert isinstance(space.sample(), str)
    written = space.decode(space.embed(MOLECULES[:3]), isthmus.Generation(label="heavy"))
    assert len(written) == 3


def test_other_spellings_are_trained_on_and_what_is_no_molecule_is_refused():
    pytest.importorskip("rdkit", reason="the extra molecules is not installed")
    data = {"randomised": 0.5}
    space = isthmus.fit(MOLECULES, recipe="molecules", train=SHORT, data=data)
    # These have no branch, and their other spellings have.
    assert "(" not in "".join(MOLECULES)
    assert "(" in space.model.codec.decoder_tokenizer.get_vocab()
    assert space.metrics["unknown_tokens"] == 0
    with pytest.raises(IsthmusError, match="no molecule in"):
        isthmus.fit(["a cat", "a dog"] * 20, recipe="molecules", train=SHORT, data=data)


def test_proteins_are_read_by_their_characters():
    proteins = [f"M{a}{b}KTAYIAKQR{b}" for a in "ACDEFGHIKL" for b in "MNPQRSTVWY"]
    space = isthmus.fit(proteins, recipe="proteins", train=SHORT)
    assert space.metrics["ppl_word"] is None
    assert space.metrics["characters"] == space.metrics["tokens"]
