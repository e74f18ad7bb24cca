"""Sampled text follows p(x|z): frequencies, cuts, seeds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from isthmus.errors import IsthmusError
from isthmus.models import base
from isthmus.models.generation import Generation, Source, SpecialTokens, write
from tiny import system


def first_token_probabilities(model, z):
    conditioning = model.conditioning(z)
    start = torch.tensor([[model.decoder.special.start]])
    return model.decoder.logits(model.decoder.hidden(conditioning, start))[0, -1].softmax(-1)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_frequencies_are_the_probabilities(temperature):
    model = system("gpt2-memory+embedding")
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(3))
    logits = first_token_probabilities(model, z).log() / temperature
    probabilities = logits.softmax(-1)
    count = 4000
    torch.manual_seed(0)
    rows = model.decoder.generate(
        model.conditioning(z.expand(count, 3)),
        count,
        Generation(max_new_tokens=1, sample=True, temperature=temperature),
    )
    seen = Counter(row[0] if row else model.decoder.special.end for row in rows)
    expected = probabilities.double() * count
    often = expected > 5
    observed = torch.tensor([float(seen[i]) for i in range(8)])
    pairs = [torch.cat([x[often], x[~often].sum().reshape(1)]) for x in (observed, expected)]
    pairs = [x[:-1] if pairs[1][-1] == 0 else x for x in pairs]
    assert often.sum() >= 3
    assert chisquare(pairs[0].double(), pairs[1], sum_check=False).pvalue > 1e-3


@torch.no_grad()
def test_cuts_keep_the_most_probable_tokens():
    model = system("gpt2-memory+embedding")
    z = torch.randn(1, 3, generator=torch.Generator().manual_seed(3))
    probabilities = first_token_probabilities(model, z)
    order = probabilities.argsort(descending=True).tolist()
    nucleus = 1 + int((probabilities[order].cumsum(0) < 0.8).sum())
    for cut, allowed in (({"top_k": 2}, 2), ({"top_p": 0.8}, nucleus)):
        rows = model.decoder.generate(
            model.conditioning(z.expand(2000, 3)), 2000, Generation(1, sample=True, **cut)
        )
        seen = {row[0] if row else model.decoder.special.end for row in rows}
        assert seen == set(order[:allowed])


class Chain(Source):
    """p(token | how many were read): after 1 comes 0 or 3, after 3 comes 0 or 4, then 0."""

    def __init__(self):
        self.read_so_far = 0

    def read(self, ids):
        self.read_so_far += ids.shape[1]
        chances = torch.full((3, 5), 1e-4)
        chances[0, [0, 3]] = torch.tensor([0.45, 0.55])
        chances[1, [0, 4]] = torch.tensor([0.4, 0.6])
        chances[2, 0] = 0.999
        return chances[self.read_so_far - 1].log().expand(len(ids), -1)

    def keep(self, rows):
        """All rows are alike."""


def test_beams_judge_texts_by_the_mean_of_their_tokens():
    """By its sum the empty text is likelier, 0.45 against 0.55 · 0.6; by its mean it is not."""
    start, nothing = torch.tensor([1]), torch.tensor([], dtype=torch.long)
    settings = Generation(max_new_tokens=3, beams=2)
    [text] = write(Chain(), 1, start, nothing, settings, SpecialTokens(start=1, end=0, pad=2))
    assert text == [3, 4]


def test_parts_of_a_large_batch_have_draws_of_their_own(monkeypatch):
    """One z many times: seeded part by part, every part would repeat the first."""
    monkeypatch.setattr(base, "TEXTS_AT_ONCE", 4)
    model = system("language")
    texts = model.decode(torch.zeros(12, 0), Generation(max_new_tokens=8, sample=True, seed=4))
    parts = {tuple(texts[i : i + 4]) for i in range(0, 12, 4)}
    assert len(parts) == 3


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens and beams must be ≥ 1, got 0 and 1"),
        ({"beams": 0}, "got 64 and 0"),
        ({"temperature": 0.0}, "expected temperature > 0"),
        ({"top_p": 0.0}, "0 < top_p ≤ 1"),
        ({"top_p": 1.5}, "0 < top_p ≤ 1"),
        ({"guidance_top_p": 0.0}, r"guidance_top_p: got 0\.0"),
        ({"guidance_top_p": 1.1}, r"guidance_top_p: got 1\.1"),
        ({"guidance_top_p": 0.9}, r"guidance_top_p: got 0\.9 without guidance"),
        ({"top_k": -1}, "top_k ≥ 0"),
    ],
)
def test_settings_out_of_range(wrong, line):
    with pytest.raises(IsthmusError, match=line):
        Generation(**wrong)
