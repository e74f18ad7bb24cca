"""Walks and arithmetic of two levels: the draft whose own summary is nearest to the point."""

import torch

import isthmus
from isthmus.explore.search import arithmetic, waypoints
from isthmus.explore.walks import analogy, interpolate
from isthmus.models.base import encode_examples
from isthmus.models.generation import Generation
from tiny import TEXTS, make

NAMES = {"pooling": "blocks", "encoder": "modernbert", "latents": 8, "summary": 2}
GREEDY = Generation(max_new_tokens=12)


def places(model, texts, start, end):
    """Where the summaries of texts lie between two others, and how far aside, by projection."""
    own = encode_examples(model, model.codec.prepare(texts)).mean[:, :2].flatten(1).double()
    a, b = start[:2].flatten().double(), end[:2].flatten().double()
    basis = torch.linalg.qr((b - a).unsqueeze(1))[0].squeeze(1)
    along = (own - a) @ basis
    aside = (own - a).square().sum(1) - along.square()
    length = (b - a).norm()
    return along / (basis @ (b - a)), aside / length**2


def test_a_walk_stands_where_it_says_better_than_the_straight_line():
    model = make("llama", "aligned", **NAMES)
    wanted = torch.tensor([1, 2, 3]).double() / 4
    searched, straight = 0.0, 0.0
    for first, last in [(0, 2), (1, 5), (3, 4)]:
        start, end = model.encode([TEXTS[first], TEXTS[last]]).mean
        walk = waypoints(model, start, end, 3)
        assert torch.equal(walk[0], start)
        assert torch.equal(walk[-1], end)
        line = interpolate(start, end, 3, summary=2)
        for latents, sign in ((walk, 1), (line, 0)):
            texts = model.decode(latents[1:-1], GREEDY)
            along, aside = places(model, texts, start, end)
            cost = (aside + 16 * (along - wanted).square()).sum().item()
            searched, straight = (
                (searched + cost, straight) if sign else (searched, straight + cost)
            )
    assert searched < straight


def test_no_text_of_a_walk_comes_twice_while_there_are_others():
    model = make("llama", "aligned", **NAMES)
    start, end = model.encode([TEXTS[2], TEXTS[4]]).mean
    texts = model.decode(waypoints(model, start, end, 3), GREEDY)
    assert len(set(texts)) == 5


def test_arithmetic_takes_the_draft_nearest_to_the_sum():
    model = make("llama", "aligned", **NAMES)
    a, b, c = (model.encode([text]).mean for text in (TEXTS[0], TEXTS[1], TEXTS[2]))
    found = arithmetic(model, [TEXTS[2]], a, b, c)
    target = c + b - a
    hidden = analogy(a, b, c, 1.0, 2)
    costs = []
    for latents in (found, hidden):
        along, aside = places(model, model.decode(latents, GREEDY), c[0], target[0])
        costs.append((aside + 4 * (along - 1).square()).item())
    assert costs[0] <= costs[1]
    same = arithmetic(model, [TEXTS[2]], a, a, c)
    assert torch.equal(same[:, :2], c[:, :2])


def test_models_of_one_level_walk_and_add_as_ever():
    model = make("gpt2", "memory")
    a, b, c = model.encode(TEXTS[:3]).mean
    assert torch.equal(waypoints(model, a, b, 4, "lerp"), interpolate(a, b, 4, "lerp"))
    rows = a[None], b[None], c[None]
    assert torch.equal(arithmetic(model, TEXTS[2:3], *rows), analogy(a, b, c)[None])


def test_samples_of_summaries_are_drawn_and_those_of_others_greedy():
    model = make("llama", "aligned", **NAMES)
    z = model.prior.sample(20, torch.Generator().manual_seed(3))
    drawn = isthmus.sample(model, 20, seed=3)
    assert drawn == isthmus.sample(model, 20, seed=3)
    assert drawn != model.decode(z, Generation())
    assert isthmus.sample(
        model, 20, seed=3, generation=Generation(sample=True, top_k=1)
    ) == model.decode(z, Generation())
    plain = make("gpt2", "memory")
    z = plain.prior.sample(20, torch.Generator().manual_seed(3))
    assert isthmus.sample(plain, 20, seed=3) == plain.decode(z, Generation())
