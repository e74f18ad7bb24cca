"""Molecules, judged by MOSES' own code, beside MOSES' own VAE after as much time on the same data.

    pip install --no-deps --target FOLDER molsets fcd_torch annalog
    PYTHONPATH=FOLDER python benchmarks/moses.py            # 30,000 samples of each
    PYTHONPATH=FOLDER python benchmarks/moses.py --short    # does everything still run?

Each stage is a process of one thread and is kept in runs/moses/ (or --folder), so that a script
that is started again goes on where it was:

convert    shared/data/molecules as SELFIES, by the package of that name; annalog as a model folder
train      the recipe ``molecules`` on both forms, at its β and on SELFIES at β = 1; and
           ``t5-vae`` from the weights of annalog, as many processor seconds as the first of them
published  ``moses.vae`` by its own trainer, for as many processor seconds
samples    from the prior of each; ours as ``isthmus sample`` writes them
metrics    by ``moses.get_all_metrics``, of the first --compared samples; valid and unique of all
bounds     −log p(x), mutual information, active units and swap gap of test molecules
around     what is one standard deviation away from a molecule, and what is between two
curve      rate and distortion as more and more details are shown
walk       what is between two molecules, for the picture
speed      characters a second of both trainers, in turn, by processor time

molsets is of 2020: names that numpy, pandas and RDKit have dropped since are given back before
it is imported (:func:`moses_package`); nothing in it is changed. Its VAE has its own settings but
two, which are in its favour in so short a time: batches of 64 molecules rather than 512, and a
learning rate of 1e-3 rather than 3e-4. Its KL weight rises to 0.05 as in its own code.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import subprocess
import sys
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import isthmus
from common import (
    BENCHMARKS,
    DATA,
    RUNS,
    Clock,
    fitted,
    kept,
    once,
    one_thread,
    peak_memory,
    seconds_of,
    settings_of,
    share,
    trained,
)
from isthmus.data.corpus import TEXT
from isthmus.explore.walks import TOP_P
from isthmus.models.base import summarised
from isthmus.models.build import build
from isthmus.models.foreign.plain import write
from isthmus.models.foreign.sources import read_foreign
from isthmus.models.generation import Generation
from isthmus.settings import with_changes
from moses_page import draw, rates, report

MOLECULES = str(DATA / "molecules")
VARIANTS: dict[str, dict[str, Any]] = {
    "selfies": {},
    "selfies-seed-1": {"train": {"seed": 1}},
    "selfies-seed-2": {"train": {"seed": 2}},
    "smiles": {},
    "selfies-vector": {
        "model": {
            **{"latents": 1, "summary": 0, "latent_size": 56, "latent_dropout": 0.0},
            **{"bridge": "state+input", "encoder": {"pooling": "max"}},
        },
        "objective": {"schedule": "linear", "beta": 0.1, "ramp": 0.5, "summary_kl": 0.0}
        | {"words": 0.0},
    },
    "selfies-beta-1": {"objective": {"beta": 1.0, "summary_kl": 0.0}},
}
"""Runs of the recipe, and what they change; ``vector`` has one latent instead of two levels."""
PRETRAINED: dict[str, Any] = {
    "model": {"encoder": {"head_scale": 0.0}},
    "data": {"maximum_length": 80, "deletion": 0.0},
    "objective": {"beta": 0.25, "free_bits": 0.2},
    "train": {"learning_rate": 5e-4, "keep": "last"},
}
"""The recipe ``t5-vae`` from the weights of ``annalog``, an encoder-decoder trained on SMILES.

What it was trained on may hold test molecules. At β = 1 the mutual information was 2.6 nats, and
it is to be above 4."""
NAMES = (*VARIANTS, "annalog")
TWO_LEVELS = ("selfies", "smiles")
PARTS = 20
"""Parts of the published training between which its KL weight rises, as it has epochs."""


def moses_package() -> Any:
    """The package (not this file, which has its name), with what it needs of older libraries."""
    import pandas as pd

    def append(self: Any, other: Any, sort: bool = False) -> Any:
        return pd.concat([self, other], sort=sort)

    six = types.ModuleType("rdkit.six")
    vars(six)["iteritems"] = lambda mapping: iter(mapping.items())
    sys.modules["rdkit.six"] = six
    for owner, name, value in (
        (np, "NaN", np.nan),
        (np, "row_stack", np.vstack),
        (pd.DataFrame, "append", append),
    ):
        if not hasattr(owner, name):
            setattr(owner, name, value)
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != BENCHMARKS.resolve()]
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")
    importlib.import_module("moses.vae")
    return importlib.import_module("moses")


def settings(variant: str, options: argparse.Namespace) -> Any:
    """The recipe with as many steps as fit the time."""
    limit = {"data": {"limit": options.limit}}
    if variant != "annalog":
        asked = {"train": {"steps": options.steps}}
        return settings_of("molecules", asked, limit, VARIANTS[variant])
    seconds = kept(options.folder / "train-selfies.json")["processor_seconds"]
    source = {"source": str(options.folder / "annalog-model")}
    asked = {
        "model": {"encoder": source, "decoder": source},
        "train": {"minutes": seconds / 60, "epochs": 100},
    }
    return settings_of("t5-vae", PRETRAINED, asked, limit)


def splits_of(variant: str, options: argparse.Namespace) -> Any:
    """Training, validation and test molecules."""
    converted = "selfies" in variant
    data = str(options.folder / "data") if converted else MOLECULES
    return TEXT.read_splits(data, settings(variant, options))


def smiles_of(variant: str, texts: Sequence[str]) -> list[str]:
    """What a space of SELFIES or SMILES writes, as SMILES."""
    if "selfies" not in variant:
        return list(texts)
    selfies = importlib.import_module("selfies")
    found = []
    for text in texts:
        try:
            found.append(selfies.decoder(text))
        except selfies.DecoderError:  # a draw can hold a token that training never met
            found.append("not SELFIES")
    return found


def convert(options: argparse.Namespace) -> dict[str, Any]:
    """Write the molecules as SELFIES, and the pretrained model as a folder."""
    if not (options.folder / "annalog-model").exists():
        write(read_foreign("annalog"), options.folder / "annalog-model")
    encoder = importlib.import_module("selfies").encoder
    corpora, begun = splits_of("smiles", options), time.process_time()
    (options.folder / "data").mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        lines = "".join(f"{encoder(text)}\n" for text in getattr(corpora, split).texts)
        (options.folder / "data" / f"{split}.txt").write_text(lines, encoding="utf-8")
    return {"processor_seconds": time.process_time() - begun}


def train(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train with the recipe."""
    run = options.folder / variant
    trained(run, settings(variant, options), splits_of(variant, options))
    return {**seconds_of(run), "steps": options.steps, "peak_memory_mib": peak_memory()}


class Until:
    """Batches for the published trainer, until the processor time of a part is used up."""

    def __init__(self, batches: Iterator[Any], seconds: float) -> None:
        self.batches, self.end, self.count = batches, time.process_time() + seconds, 0

    def __iter__(self) -> Iterator[Any]:
        while time.process_time() < self.end:
            self.count += 1
            yield next(self.batches)

    def set_postfix_str(self, line: str) -> None:
        """What tqdm has, and the trainer calls."""
        self.line = line


def endless(loader: Any) -> Iterator[Any]:
    """The batches of a loader, over and over."""
    while True:
        yield from loader


def published_model(texts: Sequence[str]) -> tuple[Any, Any]:
    """The published VAE, fresh, and its trainer."""
    vae = moses_package().vae
    config = vae.vae_parser().parse_args(["--n_batch", "64", "--lr_start", "1e-3"])
    config.lr_end = config.lr_start
    trainer = vae.VAETrainer(config)
    torch.manual_seed(0)
    return vae.VAE(trainer.get_vocabulary(texts), config), trainer


def published(options: argparse.Namespace) -> dict[str, Any]:
    """Train the published VAE for as many processor seconds as ours had."""
    texts = splits_of("smiles", options).train.texts
    model, trainer = published_model(texts)
    seconds = kept(options.folder / "train-selfies.json")["processor_seconds"]
    optimiser = torch.optim.Adam(trainer.get_optim_params(model), lr=trainer.config.lr_start)
    weight = importlib.import_module("moses.vae.misc").KLAnnealer(PARTS, trainer.config)
    batches, steps, line = endless(trainer.get_dataloader(model, texts)), 0, ""
    for part in range(PARTS):
        some = Until(batches, seconds / PARTS)
        trainer._train_epoch(model, part, some, weight(part), optimiser)
        steps, line = steps + some.count, some.line
        print(f"{part + 1} of {PARTS}: {steps:,} steps, {line}", flush=True)
    torch.save(model.state_dict(), options.folder / "published.pt")
    memory = {"peak_memory_mib": peak_memory(), "last": line}
    return {"processor_seconds": seconds, "steps": steps, **memory}


def published_trained(options: argparse.Namespace) -> Any:
    """The published VAE as it was trained."""
    model, _ = published_model(splits_of("smiles", options).train.texts)
    model.load_state_dict(torch.load(options.folder / "published.pt", weights_only=True))
    return model.eval()


def with_masks(zeros: Any, *sizes: Any, dtype: Any, **options: Any) -> Any:
    """``torch.zeros`` for the published sampling, whose masks are bytes; torch wants truth now."""
    return zeros(*sizes, dtype=torch.bool if dtype is torch.uint8 else dtype, **options)


def samples(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Draw molecules from the prior."""
    begun = time.process_time()
    if name == "published":
        model, found = published_trained(options), []
        torch.manual_seed(0)
        with mock.patch.object(torch, "zeros", functools.partial(with_masks, torch.zeros)):
            while len(found) < options.samples:
                found += model.sample(min(512, options.samples - len(found)))
    else:
        space = isthmus.Space.load(options.folder / name)
        drawn = Generation(sample=True, top_p=TOP_P) if name == "annalog" else None
        texts = space.sample(options.samples, generation=drawn)
        found = smiles_of(name, texts)
    return {"processor_seconds": time.process_time() - begun, "samples": found}


def metrics(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What MOSES says of the samples; distances of none are null."""
    moses = moses_package()
    found = kept(options.folder / f"samples-{name}.json")["samples"]
    known = splits_of("smiles", options).train.texts
    compared, valid = found[: options.compared], moses.metrics.remove_invalid(found)
    figures: dict[str, Any] = {}
    if len(moses.metrics.remove_invalid(compared)) > 1:
        # Its ChemNet is a pickle of the package's own.
        load = functools.partial(torch.load, weights_only=False)
        with mock.patch.object(torch, "load", load):
            figures = moses.get_all_metrics(compared, train=known)
    figures["valid"] = len(valid) / len(found)
    for most in (1_000, 10_000):
        unique = moses.metrics.fraction_unique
        figures[f"unique@{most}"] = unique(valid, most) if len(valid) >= most else None
    figures |= {"samples": len(found), "compared": len(compared)}
    known_ones = {key: value for key, value in figures.items() if value == value}
    return {key: value and float(value) for key, value in known_ones.items()}


def bounds(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """What nobody reports of molecules: the bound and what the latent holds."""
    space = isthmus.Space.load(options.folder / variant)
    texts = splits_of(variant, options).test.sample(options.texts, 0).texts
    found = space.evaluate(texts, samples=50, texts=options.texts)
    numbers = {key: value for key, value in found.items() if isinstance(value, int | float)}
    return {
        key: {"value": value, "se": numbers[f"{key}_se"]} if f"{key}_se" in numbers else value
        for key, value in numbers.items()
        if not key.endswith("_se")
    }


def published_bounds(options: argparse.Namespace) -> dict[str, Any]:
    """The ELBO of the published VAE, whose own loss is a mean over the tokens of a batch."""
    model = published_trained(options)
    texts = splits_of("smiles", options).test.sample(options.texts, 0).texts
    torch.manual_seed(0)
    rows = []
    with torch.no_grad():
        for text in texts:
            kl, loss = model([model.string2tensor(text)])
            rows.append((float(kl), float(loss) * (len(text) + 1)))
    kl, nats = np.array(rows).T
    error = (kl + nats).std(ddof=1) / len(rows) ** 0.5
    return {"elbo": -(kl + nats).mean(), "elbo_se": error, "kl": kl.mean(), "sentences": len(rows)}


def scaffold(molecule: Any) -> str:
    """The Murcko scaffold; empty without rings."""
    from rdkit.Chem.Scaffolds import MurckoScaffold

    return str(MurckoScaffold.MurckoScaffoldSmiles(mol=molecule))


def around(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Decodes a standard deviation away, and between two molecules, of the test split."""
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    space = isthmus.Space.load(options.folder / variant)
    count = max(20, options.texts // 2)
    texts = splits_of(variant, options).test.sample(count, 1).texts
    found = {f"all_{name}": value for name, value in steps_from(variant, space, texts).items()}
    with summarised(space.model) if space.config.summary else nullcontext():
        found |= steps_from(variant, space, texts)
    between = []
    for start, end in zip(texts[::2], texts[1::2], strict=False):
        between += space.interpolate(start, end, steps=7)[1:-1]
    molecules = [Chem.MolFromSmiles(text) for text in smiles_of(variant, between)]
    found["between_valid"] = share([one is not None for one in molecules])
    return found


def steps_from(variant: str, space: isthmus.Space, texts: Sequence[str]) -> dict[str, Any]:
    """What is decoded at the posterior mean, at a draw from it, and one prior deviation away."""
    from rdkit import Chem

    own = [Chem.MolFromSmiles(text) for text in smiles_of(variant, texts)]
    posterior, generator = space.encode(texts), torch.Generator().manual_seed(0)
    noise = torch.randn(posterior.mean.shape, generator=generator)
    step = noise / noise.flatten(1).norm(dim=1).reshape(-1, *[1] * (noise.ndim - 1))
    # As long as the standard deviation of one dimension over the molecules, in any direction.
    spread = posterior.mean.flatten(1).std(0).square().mean().sqrt()
    places = {
        "mean": posterior.mean,
        "posterior": posterior.mean + noise * (posterior.log_variance / 2).exp(),
        "step": posterior.mean + step * spread,
    }
    figures: dict[str, Any] = {"spread": float(spread)}
    for name, z in places.items():
        there = [Chem.MolFromSmiles(text) for text in smiles_of(variant, space.decode(z))]
        figures[f"{name}_valid"] = share([one is not None for one in there])
        pairs = [(a, b) for a, b in zip(own, there, strict=True) if scaffold(a)]
        kept_there = [b is not None and scaffold(a) == scaffold(b) for a, b in pairs]
        figures[f"{name}_keeps_scaffold"] = share(kept_there)
        same = [b is not None and Chem.MolToSmiles(a) == Chem.MolToSmiles(b) for a, b in pairs]
        figures[f"{name}_same"] = share(same)
    return figures


def curve(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Rate and distortion, from the summary alone to all latents."""
    texts = splits_of(variant, options).test.sample(options.texts, 2).texts
    return {"shares": rates(isthmus.Space.load(options.folder / variant), texts)}


def walk(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Molecules between two of the test split, for the picture."""
    start, end = splits_of(variant, options).test.sample(2, 3).texts
    found = isthmus.Space.load(options.folder / variant).interpolate(start, end, steps=8)
    return {"molecules": smiles_of(variant, [start, *found[1:-1], end])}


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Characters a second of one thread by processor time, ours and theirs in turn."""
    split = splits_of("smiles", options)
    texts, asked = split.train.texts[:20_000], settings("smiles", options)
    asked = with_changes(asked, {"train": {"steps": 40, "evaluations": 1}}, "speed")
    characters = sum(map(len, texts)) / len(texts)
    found: dict[str, list[float]] = {"ours": [], "published": []}
    theirs, trainer = published_model(texts)
    optimiser = torch.optim.Adam(trainer.get_optim_params(theirs), lr=1e-3)
    batches = endless(trainer.get_dataloader(theirs, texts))
    for _ in range(options.rounds):
        ours, clock = build(asked, texts), Clock(10, 40, time.process_time)
        examples = ours.read(texts)
        each = len(texts) / len(examples.batches(asked.train.tokens_per_batch))
        fitted(ours, asked, examples, ours.read(split.valid.texts[:50]), clock)
        found["ours"].append(30 * each * characters / clock.seconds)
        some, begun = Until(batches, clock.seconds), time.process_time()
        trainer._train_epoch(theirs, 0, some, 0.05, optimiser)
        spent = time.process_time() - begun
        found["published"].append(some.count * trainer.config.n_batch * characters / spent)
    ratios = np.divide(found["ours"], found["published"])
    return {**found, "ratios": ratios.tolist(), "ratio": float(np.median(ratios))}


STAGES = (
    ("convert", ""),
    *(("train", name) for name in NAMES),
    ("published", ""),
    *(("samples", name) for name in (*NAMES, "published")),
    *(("metrics", name) for name in (*NAMES, "published")),
    *(("bounds", name) for name in NAMES),
    ("published_bounds", ""),
    *(("around", name) for name in NAMES if "seed" not in name),
    *(("curve", name) for name in TWO_LEVELS),
    *(("walk", name) for name in TWO_LEVELS),
    ("speed", ""),
)


def stage(what: str, name: str, options: argparse.Namespace) -> None:
    """Do one stage in this process, unless it is done."""
    one_thread()
    path = options.folder / (f"{what}-{name}.json" if name else f"{what}.json")
    work = functools.partial(globals()[what], *([name] if name else []), options)
    once(path, work)


def main() -> None:
    parser = argparse.ArgumentParser(description="MOSES; the head of this file says more.")
    parser.add_argument("--folder", type=Path, default=RUNS / "moses")
    parser.add_argument("--samples", type=int, default=30_000, help="molecules drawn of each")
    parser.add_argument("--steps", type=int, default=30_000, help="of our training")
    parser.add_argument("--compared", type=int, default=30_000, help="samples to compare")
    parser.add_argument("--limit", type=int, default=0, help="training molecules; 0 for all")
    parser.add_argument("--texts", type=int, default=1_000, help="test molecules")
    parser.add_argument("--rounds", type=int, default=5, help="of the speed, in turn")
    parser.add_argument("--short", action="store_true", help="see whether everything still runs")
    parser.add_argument("--stage", nargs=2, help="one stage, in this process")
    options = parser.parse_args()
    if options.short:
        options.samples, options.steps, options.texts, options.rounds = 200, 15, 20, 1
        options.limit = 10_000
        options.folder = options.folder.with_name("moses-short")
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.stage:
        stage(*options.stage, options)
        return
    for what, name in STAGES:
        subprocess.run([sys.executable, *sys.argv, "--stage", what, name], check=True)
    if not options.short:
        report(options.folder, NAMES)
        draw(options.folder)


if __name__ == "__main__":
    main()
