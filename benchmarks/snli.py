"""SNLI as a corpus for ``isthmus bench seeds``: ``runs/snli`` with train, valid and test texts.

    python benchmarks/snli.py
    isthmus bench seeds --data runs/snli --rows lstm-lm lstm-free-bits --seeds 3

Only SNLI's development pairs are at hand, so they are split by premise, and the captions of which
most premises come stand for the rest of the training texts:

* 500 premises with all their hypotheses are the test part, 500 others the validation part, of
  which only hypotheses are kept: premises are captions, and so partly known.
* Training has the other premises and hypotheses, and all captions but those of pictures that a
  held-out premise describes.

Words and punctuation are parted by spaces and lower-cased, as SNLI's own tokens are not those of
the captions.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

from common import DATA, RUNS

HELD_OUT = 500
"""Premises of the test part, and as many of the validation part."""
CAPTIONS_OF_A_PICTURE = 5


def tokens(text: str) -> str:
    """Words and punctuation marks, parted by single spaces."""
    return " ".join(re.findall(r"[\w'-]+|[^\w\s]", text.lower()))


def lines(path: Path) -> list[str]:
    """The lines of a packed text file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def parts() -> dict[str, list[str]]:
    """The texts of each part, every text once."""
    hypotheses: dict[str, list[str]] = {}
    for line in lines(DATA / "snli" / "dev.tsv.gz"):
        _, premise, hypothesis = line.split("\t")
        hypotheses.setdefault(tokens(premise), []).append(tokens(hypothesis))
    premises = sorted(hypotheses)
    random.Random(0).shuffle(premises)
    of_part = {
        "test": premises[:HELD_OUT],
        "valid": premises[HELD_OUT : 2 * HELD_OUT],
        "train": premises[2 * HELD_OUT :],
    }
    texts = {part: [h for p in of_part[part] for h in hypotheses[p]] for part in of_part}
    texts["train"] += of_part["train"]
    held_out = {*of_part["test"], *of_part["valid"]}
    captions = [tokens(line) for line in lines(DATA / "captions" / "train.txt.gz")]
    for start in range(0, len(captions), CAPTIONS_OF_A_PICTURE):
        picture = captions[start : start + CAPTIONS_OF_A_PICTURE]
        if held_out.isdisjoint(picture):
            texts["train"] += picture
    seen: set[str] = set()
    for part, kept in texts.items():  # test first: no text of it is in another part
        texts[part] = [text for text in dict.fromkeys(kept) if text not in seen]
        seen.update(texts[part])
    return texts


def main() -> None:
    folder = RUNS / "snli"
    folder.mkdir(parents=True, exist_ok=True)
    texts = parts()
    for part, kept in texts.items():
        (folder / f"{part}.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(json.dumps({part: len(kept) for part, kept in texts.items()}))


if __name__ == "__main__":
    main()
