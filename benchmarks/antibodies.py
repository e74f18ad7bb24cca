"""AntiBERTy and IgLM-S as one VAE, on sequences drawn from IgLM-S, whose own −log p is the limit.

IgLM-S writes whole texts after its token [HEAVY]: species, residues, and the [MASK] of a span that
it was taught to leave out. Its −log p(x) on them is on average the entropy of the texts, below
which no model comes. The VAE has a KL of at least FLOOR nats, which can cost but never gain. The
decoder stays as it is or is trained by LoRA: it already is the distribution of the texts.

    pip install --no-deps --target PACKAGES "antiberty<1" iglm==0.1.0
    PYTHONPATH=PACKAGES python benchmarks/antibodies.py      # half an hour on one core, resumable

iglm is for non-commercial use only: nothing but this measurement reads it. Models, draws and runs
stay in runs/antibodies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from common import RUNS, figure, kept, one_thread, plus_minus, settings_of, table, trained, write
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.evaluation.likelihood import bounds
from isthmus.evaluation.usage import Estimate, mutual_information
from isthmus.models.build import build
from isthmus.models.conditioning import Conditioning
from isthmus.models.foreign.plain import write as write_folder
from isthmus.models.foreign.sources import read_foreign
from isthmus.models.generation import Generation
from isthmus.models.language import LanguageModel
from isthmus.models.starting import alone
from isthmus.runs.folders import write_json
from isthmus.settings import Settings

FOLDER = RUNS / "antibodies"
COUNTS = {"train": 3_000, "valid": 200, "test": 500}
LENGTH = 160
"""Tokens of a draw at most; those that are longer are left out."""
FLOOR = 5.0
SAMPLES = 20
ROWS = {tuning: ("output", tuning) for tuning in ("frozen", "lora")}


def sources() -> dict[str, str]:
    """Encoder and decoder as plain folders."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("antiberty", "iglm"):
        if not (FOLDER / name).is_dir():
            write_folder(read_foreign(name), FOLDER / name)
    return {"encoder": str(FOLDER / "antiberty"), "decoder": str(FOLDER / "iglm")}


def settings(source: dict[str, str], bridge: str, tuning: str) -> Settings:
    """Of the VAE, or without a bridge of the language model that its decoder is."""
    decoder = {"source": source["decoder"], "tuning": tuning}
    shared: dict[str, Any] = {
        "model": {"decoder": decoder},
        "data": {"maximum_length": LENGTH},
        "train": {
            "epochs": 5,
            "evaluations": 5,
            "validation": 200,
            "learning_rate": 1e-3,
        },
    }
    if not bridge:
        return settings_of("optimus-tiny", shared, {"model": {"kind": "language-model"}})
    encoder = {"source": source["encoder"], "tuning": "frozen", "pooling": "mean"}
    model = {"latent_size": 16, "bridge": bridge, "encoder": encoder}
    floor = {"free_bits": FLOOR, "free_bits_form": "total"}
    return settings_of("optimus-tiny", shared, {"model": model, "objective": floor})


@torch.no_grad()
def drawn(plain: LanguageModel) -> tuple[dict[str, list[str]], int]:
    """Texts of the language model, and how many draws were too long."""
    path, count = FOLDER / "draws.json", sum(COUNTS.values())
    if not path.is_file():
        torch.manual_seed(0)
        tokenizer, found, long = plain.codec.decoder_tokenizer, list[str](), 0
        how = Generation(max_new_tokens=LENGTH, sample=True)
        while len(found) < count:
            for ids in plain.decoder.generate(Conditioning(), 128, how):
                long += len(ids) >= LENGTH
                if len(ids) < LENGTH:
                    found.append("".join(tokenizer.convert_ids_to_tokens(ids)))
            print(f"{len(found):,} of {count:,} texts", flush=True)
        write_json({"texts": found[:count], "long": long}, path)
    record, texts = kept(path), {}
    rest = record["texts"]
    for name, size in COUNTS.items():
        texts[name], rest = rest[:size], rest[size:]
    return texts, record["long"]


def measure(run: Path, given: Settings, splits: Splits[TextCorpus], own: Any) -> dict[str, Any]:
    """A VAE beside the decoder that it began as, on the same texts."""
    model = trained(run, given, splits)
    assert splits.test is not None
    found = bounds(model, model.codec.prepare(splits.test.texts), samples=SAMPLES)
    values = {
        "negative_elbo": found.negative_elbo,
        "nll_iw": found.nll_iw,
        "kl": found.kl.sum(1),
        "swap_gap": found.swapped - found.own,
        "bound_over_plain": found.negative_elbo / own.mean(),
    }
    estimates = {name: figure(Estimate.mean_of(value)) for name, value in values.items()}
    information = mutual_information(found.posterior, found.z)
    return estimates | {"mutual_information": figure(information)}


def main() -> None:
    one_thread()
    source = sources()
    plain = build(settings(source, "", "full"), ["[HUMAN]EVQ"]).eval()
    assert isinstance(plain, LanguageModel)
    texts, long = drawn(plain)
    corpora = {name: TextCorpus(part, None, f"IgLM-S, {name}") for name, part in texts.items()}
    splits = Splits(corpora["train"], corpora["valid"], corpora["test"], {})
    own = alone(plain, plain.codec.prepare(texts["test"]))
    rows = {}
    for name, chosen in ROWS.items():
        run = FOLDER / f"output-{name}"
        rows[name] = measure(run, settings(source, *chosen), splits, own)
        print(name, rows[name], flush=True)
    entropy = figure(Estimate.mean_of(own))
    head = ("decoder", *next(iter(rows.values())))
    cells = [
        (name, *(plus_minus(one["value"], one["se"]) for one in row.values()))
        for name, row in rows.items()
    ]
    title = f"# AntiBERTy and IgLM-S on {COUNTS['test']} sequences of IgLM-S\n\n"
    limit = f"−log p(x) of IgLM-S itself: {plus_minus(entropy['value'], entropy['se'])} nats.\n\n"
    text = title + limit + "\n".join(table(head, cells)) + "\n"
    write(Path(__file__).stem, {"plain": entropy, "too_long": long, "rows": rows}, text)


if __name__ == "__main__":
    main()
