"""Four Markov sources under control codes, where every answer is known exactly.

A text is twenty words of one of four chains over 24 words, with priors .70, .20, .08, .02. The
true p(x|c), p(c|x) and p(x) are products of transition probabilities, so a model's losses under
each code, its attribution, its marginal and the effect of guidance all compare with the truth.

    python benchmarks/markov.py        # about a minute on one core; writes results/markov.json
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import fitted, settings_from, write
from isthmus.evaluation.attribution import log_likelihoods
from isthmus.evaluation.calibration import marginal, posterior
from isthmus.evaluation.text import distinct
from isthmus.explore.walks import decode_as
from isthmus.models.build import build
from isthmus.models.generation import Generation
from isthmus.models.language import LanguageModel

WORDS, LENGTH, PRIORS = 24, 20, (0.70, 0.20, 0.08, 0.02)
GUIDANCE = (1.0, 1.5, 2.0, 3.0)


class Sources:
    """The chains: a uniform first word, and rows of transitions that the four share in part.

    Both parts are Dirichlet rows, shared such that Bayes' rule is right for about 99.6 % of texts.
    """

    def __init__(self, seed: int, concentration: float = 0.2, common: float = 0.55) -> None:
        self.draws = np.random.default_rng(seed)
        rows = np.full(WORDS, concentration)
        own = self.draws.dirichlet(rows, size=(len(PRIORS), WORDS))
        self.transition = common * self.draws.dirichlet(rows, size=WORDS) + (1 - common) * own

    def texts(self, count: int) -> tuple[list[str], list[str], Tensor]:
        """Texts, the names of their sources, and their words [N T]."""
        source = self.draws.choice(len(PRIORS), count, p=PRIORS)
        words = np.empty((count, LENGTH), dtype=np.int64)
        words[:, 0] = self.draws.integers(WORDS, size=count)
        for place in range(1, LENGTH):
            cumulative = self.transition[source, words[:, place - 1]].cumsum(-1)
            draw = self.draws.random((count, 1)) * cumulative[:, -1:]
            words[:, place] = (cumulative < draw).sum(-1)
        texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
        return texts, [f"s{place}" for place in source.tolist()], torch.from_numpy(words)

    def log_likelihood(self, words: Tensor) -> Tensor:
        """The true log p(x|c), [N C]; a text ends after twenty words with certainty."""
        log_p = torch.from_numpy(self.transition).log()
        steps = log_p[:, words[:, :-1], words[:, 1:]].sum(-1)  # [C N]
        return steps.T - np.log(WORDS)


def trained(texts: list[str], labels: list[str], steps: int, seed: int) -> LanguageModel:
    """A GPT-2 of two layers and width 64 under the codes, trained on 96 texts per step."""
    changes: dict[str, Any] = {
        "model": {
            "kind": "language-model",
            "labels": "given",
            "bridge": "start",
            "decoder": {"layers": 2, "hidden_size": 64, "heads": 4},
        },
        "data": {
            "tokenizer": "word",
            "vocabulary_size": WORDS + 5,
            "maximum_length": LENGTH + 2,
            "code_dropout": 0.1,
        },
        "train": {
            "steps": steps,
            "sentences_per_batch": 96,
            "learning_rate": 3e-3,
            "evaluations": 1,
            "seed": seed,
        },
    }
    settings = settings_from(changes)
    model = build(settings, texts, labels)
    train = model.codec.prepare(texts, labels)
    found: LanguageModel = fitted(model, settings, train, model.codec.prepare(texts[:96]))
    return found


def judged(model: LanguageModel, sources: Sources, count: int) -> dict[str, Any]:
    """The model and the truth on new texts."""
    texts, labels, words = sources.texts(count)
    examples = model.codec.prepare(texts)
    ours, true = log_likelihoods(model, examples), sources.log_likelihood(words)
    log_prior = torch.tensor(PRIORS).log()
    truth = torch.tensor([int(label[1:]) for label in labels])
    rows = torch.arange(count)
    p, q = posterior(true, log_prior), posterior(ours, log_prior)
    null = log_likelihoods(model, examples, places=[-1])[:, 0]
    divergence = (p.exp() * (p - q)).nan_to_num().sum(-1)
    return {
        "texts": count,
        "accuracy": (q.argmax(-1) == truth).double().mean().item(),
        "accuracy_bayes": (p.argmax(-1) == truth).double().mean().item(),
        "kl_of_posteriors": divergence.mean().item(),
        "kl_of_posteriors_se": (divergence.std() / count**0.5).item(),
        "per_code": {
            f"s{place}": {
                "nats_per_word": (-ours[rows, truth][truth == place].mean() / LENGTH).item(),
                "true": (-true[rows, truth][truth == place].mean() / LENGTH).item(),
            }
            for place in range(len(PRIORS))
        },
        "marginal_per_word": (-marginal(ours, log_prior).mean() / LENGTH).item(),
        "marginal_per_word_true": (-marginal(true, log_prior).mean() / LENGTH).item(),
        "null_per_word": (-null.mean() / LENGTH).item(),
    }


def guided(model: LanguageModel, sources: Sources, scale: float, count: int) -> dict[str, float]:
    """Share of texts under a code that the true posterior under equal priors assigns to it."""
    wanted = [f"s{place}" for place in range(len(PRIORS)) for _ in range(count // len(PRIORS))]
    settings = Generation(max_new_tokens=LENGTH + 1, sample=True, guidance=scale)
    texts = decode_as(model, torch.zeros(len(wanted), 0), wanted, settings)
    known = {f"w{word}" for word in range(WORDS)}  # an unknown word has no probability
    rows = [text.split() for text in texts]
    hits = []
    for name, row in zip(wanted, rows, strict=True):
        if row and known.issuperset(row):
            words = torch.tensor([[int(word[1:]) for word in row]])
            hits.append(f"s{int(sources.log_likelihood(words).argmax())}" == name)
    return {
        "guidance": scale,
        "obeyed": sum(hits) / len(hits),
        "texts": len(hits),
        "distinct_2": distinct(texts, 2).value,
    }


def main() -> None:
    seeds = [int(word) for word in sys.argv[1:]] or [0]
    for seed in seeds:
        start = time.process_time()
        sources = Sources(seed)
        texts, labels, _ = sources.texts(40_000)
        model = trained(texts, labels, 700, seed)
        found = judged(model, sources, 4_000)
        found["guidance"] = [guided(model, sources, scale, 800) for scale in GUIDANCE]
        found["processor_seconds"] = time.process_time() - start
        write("markov" if seed == 0 else f"markov_{seed}", found)
        print(found)


if __name__ == "__main__":
    main()
