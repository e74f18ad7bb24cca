"""The watch reports what is planted, once, with a remedy, and is silent otherwise."""

import itertools
import json
import math
import random
import re

import pytest
import torch

from isthmus.data.corpus import scenes_floor
from isthmus.errors import IsthmusError
from isthmus.evaluation.usage import Estimate
from isthmus.latent.objective import Objective
from isthmus.latent.schedule import Schedule
from isthmus.models.build import build
from isthmus.training.watch import Watch

WORDS = [
    "ash",
    "birch",
    "cedar",
    "elm",
    "fir",
    "hazel",
    "larch",
    "maple",
    "oak",
    "pine",
    "rowan",
    "yew",
]


@pytest.fixture(scope="module")
def unlike() -> list[str]:
    """96 sentences of six words drawn alike: without z nothing helps to guess the next word."""
    drawn = random.Random(0)
    return [" ".join(drawn.choices(WORDS, k=6)) for _ in range(96)]


@pytest.fixture
def watched(make, tmp_path, unlike):
    """Train on them; what the watch said, and what the last evaluation measured."""

    def watched(change=lambda model: None, steps=48, **objective) -> tuple[list[str], dict]:
        findings: list[str] = []
        trainer = make(
            tmp_path / "run",
            texts=unlike,
            model={"latent_size": 8},
            objective=objective,
            train={
                "steps": steps,
                "sentences_per_batch": 32,
                "learning_rate": 1e-2,
                "evaluations": 8,
                "log_every": steps,
            },
            change=change,
            warn=findings.append,
        )
        return findings, trainer.evaluate()

    return watched


def close(model) -> None:
    """A bridge that nothing passes."""
    for parameter in model.bridge.parameters():
        torch.nn.init.zeros_(parameter)
        parameter.requires_grad_(False)


def test_a_living_latent_is_left_in_peace(watched):
    findings, measured = watched(steps=240, schedule="zero-ramp", zero=0.4, ramp=0.4, beta=0.1)
    assert measured["eval_swap_gap"] > 2, "the latent is not alive: the test shows nothing"
    assert findings == []


def test_a_closed_bridge_is_reported(watched):
    [finding], _ = watched(close, schedule="zero-ramp", zero=0.3, ramp=0.3)
    assert finding.startswith("the posterior has collapsed")


def test_a_closed_bridge_without_any_beta_is_reported_at_the_end(watched):
    [finding], _ = watched(close, schedule="constant", beta=0.0)
    assert "another example's z (swap gap 0.00)" in finding


@pytest.mark.parametrize("form", ["mask", "clamp", "batch-mean", "total"])
def test_free_bits_far_above_any_kl_are_reported(watched, form):
    free = 60.0 * (8 if form == "total" else 1)
    findings, _ = watched(schedule="constant", beta=1.0, free_bits=free, free_bits_form=form)
    [finding] = findings
    assert finding.startswith("the KL gradient is off for 100%")
    assert "480 nats are free" in finding
    assert "(--objective.free-bits 0)" in finding


def test_pruning_is_not_dying_but_losing_what_was_told_is():
    def look(watch: Watch, step: int, active: float, gap: float) -> str | None:
        return watch.look(step, torch.full((10, 32), 0.3), active, Estimate(gap, 0.01, 10))

    pruned = Watch(Objective(Schedule.constant(1.0), 100), 32)
    values = [(40, 30, 60.0), (60, 9, 40.0), (80, 8, 39.0), (100, 8, 39.0)]
    assert [look(pruned, *value) for value in values] == [None] * 4
    dying = Watch(Objective(Schedule.constant(1.0), 100), 32)
    values = [(40, 30, 60.0), (60, 9, 5.0), (80, 3, 2.0), (100, 2, 1.0)]
    said = [look(dying, *value) for value in values]
    assert [bool(finding) for finding in said] == [False, False, True, False]
    assert said[2].startswith("active units fell from 30 to 3 and the swap gap from 60.0 to 2.0")


def test_a_young_decoder_is_given_time():
    watch = Watch(Objective(Schedule.constant(1.0), 100), 4)
    unused, dead, paid = Estimate(0.0, 0.01, 100), torch.zeros(9, 4), torch.ones(9, 4)
    assert [watch.look(step, dead, 0.0, unused) for step in (10, 30, 40)] == [None] * 3
    assert watch.look(50, paid, 4.0, Estimate(9.0, 0.1, 9)) is None
    assert watch.look(60, dead, 0.0, unused) is None
    assert "collapsed" in watch.look(70, dead, 0.0, unused)
    assert watch.look(80, dead, 0.0, unused) is None
    # What costs nats may come to be read until the end.
    watch = Watch(Objective(Schedule.constant(1.0), 100), 4)
    assert [watch.look(step, paid, 0.0, unused) for step in (60, 80)] == [None] * 2
    assert "the decoder ignores z: KL is 4.00" in watch.look(100, paid, 0.0, unused)


def test_a_plain_language_model_has_no_latent_to_watch():
    watch = Watch(Objective(Schedule.constant(1.0), 100), 0)
    assert watch.look(100, torch.zeros(9, 0), 0.0, Estimate(0.0, 0.0, 9)) is None


def test_a_stretch_without_beta_is_not_collapse():
    watch = Watch(Objective(Schedule.zero_ramp(1.0, zero=0.6, ramp=0.2), 100), 4)
    unused, dead = Estimate(0.0, 0.01, 100), torch.zeros(9, 4)
    assert [watch.look(step, dead, 0.0, unused) for step in (30, 50, 70, 80)] == [None] * 4
    assert "collapsed" in watch.look(90, dead, 0.0, unused)


def averaged(model) -> None:
    """A mean over tokens where the sum belongs: about a tenth of the nats."""
    true = model.reconstruction
    model.reconstruction = lambda z, batch: true(z, batch) / (batch["targets"] >= 0).sum(1)


def test_a_bound_below_the_entropy_of_scenes_stops_the_run(make, tmp_path, sentences):
    runs = {"texts": sentences, "floor": scenes_floor(), "train": {"steps": 1}}
    make(tmp_path / "honest", **runs)
    with pytest.raises(IsthmusError, match=r"step 1: −ELBO: .* standard errors below 15.92"):
        make(tmp_path / "planted", change=averaged, **runs)


LONG = torch.full((50,), 60.0, dtype=torch.double) + torch.arange(50) / 10
"""What 50 texts of 65 nats would need by the frequencies of their tokens."""


def said(watch: Watch, *looks) -> list[str | None]:
    """What a watch says of looks, (step, KL in all, swap gap, reconstruction) each."""
    size = watch.latent_size
    return [
        watch.look(
            step,
            torch.full((50, size), kl / size),
            float(size),
            Estimate(gap, 0.01, 50),
            torch.full((50,), float(nats)),
        )
        for step, kl, gap, nats in looks
    ]


@pytest.mark.parametrize(
    ("beta", "free_bits", "remedy"),
    [
        (0.1, 0.0, "raise β (--objective.beta 0.5)"),
        (0.5, 0.0, "raise β (--objective.beta 1)"),
        (0.05, 1.0, "charge all of the KL (--objective.free-bits 0)"),
    ],
)
def test_a_latent_that_spends_more_than_its_text_is_reported(beta, free_bits, remedy):
    def watch():
        return Watch(Objective(Schedule.constant(beta), 100, free_bits), 32, LONG)

    first, second, third = said(watch(), *((step, 300, 60.0, 1.0) for step in (20, 40, 60)))
    assert first is third is None
    assert second.startswith("z spends more than a text holds: KL is 300.0 nats, and the")
    assert "need 62.5" in second
    assert second.endswith(f"; {remedy}")
    # A prior that is fitted afterwards will lie where the codes are, however far apart.
    fitted = watch()
    fitted.unsampled = True
    assert said(fitted, *((step, 300, 60.0, 1.0) for step in (20, 40, 60))) == [None] * 3
    # A KL that the texts could hold, with β small by choice, is left in peace.
    assert said(watch(), *((step, 50, 60.0, 1.0) for step in (60, 80, 100))) == [None] * 3


SCATTERED = "the means are scattered, 1.4 from 0 where the prior has 1"
NARROW = "the posteriors are narrower than the decoder can tell apart"


@pytest.mark.parametrize(
    ("squares", "head", "beta", "free_bits", "cause", "remedy"),
    [
        (
            32,
            0.5,
            1.0,
            0.5,
            SCATTERED,
            "let the scale of the head be chosen (--model.encoder.head",
        ),
        (32, 0.0, 1.0, 0.5, SCATTERED, "train longer (--train.steps 500)"),
        (8, 0.5, 0.1, 0.0, NARROW, "raise β (--objective.beta 0.5)"),
        (8, 0.5, 1.0, 0.5, NARROW, "train longer (--train.steps 500)"),
    ],
)
def test_a_latent_that_costs_far_more_than_it_tells_is_reported(
    squares, head, beta, free_bits, cause, remedy
):
    def look(gap: float, kl: float = 1.5, squares: float | None = squares, **more):
        objective = Objective(Schedule.constant(beta), 100, free_bits)
        watch = Watch(objective, 32, LONG, head_scale=head, **more)
        kls, nats = torch.full((50, 32), kl), torch.full((50,), 20.0)
        given = (kls, 32.0, Estimate(gap, 0.5, 50), nats, squares)
        return [watch.look(step, *given) for step in (60, 80, 100)]

    # What a flag can choose is said soon; the rest may pass, or turn out to be "too full".
    soon = remedy.startswith("let")
    first, second, last = look(10.0)
    finding, other = (second, last) if soon else (last, second)
    assert first is other is None
    assert finding.startswith("z costs far more than it tells: KL is 48.0 nats, and another")
    assert f"z takes only 10.0 away; {cause}; {remedy}" in finding
    # What another z takes away may have been told; free bits are not paid; other priors hold it.
    assert look(25.0) == look(10.0, kl=0.7) == look(10.0, squares=None) == [None] * 3
    assert look(10.0, unsampled=True) == [None] * 3


def test_a_large_kl_on_the_way_to_full_beta_is_no_finding():
    schedule = Schedule.zero_ramp(1.0, zero=0.5, ramp=0.4)
    watch = Watch(Objective(schedule, 100), 32, LONG)
    looks = [(step, kl, 60.0, 1.0) for step, kl in ((30, 300), (60, 200), (80, 90), (100, 50))]
    assert said(watch, *looks) == [None] * 4
    autoencoder = Watch(Objective(Schedule.constant(0.0), 100), 32, LONG)
    assert said(autoencoder, *((step, 500, 60.0, 0.1) for step in (60, 80, 100))) == [None] * 3


@pytest.mark.parametrize("size", [0, 4])
def test_a_bound_that_frequencies_beat_is_reported_at_the_end(size):
    watch = Watch(Objective(Schedule.constant(1.0), 100), size, LONG)

    def look(step: int, nats: float) -> str | None:
        kl = torch.full((50, size), 2.0)
        gap = Estimate(9.0, 0.01, 50)
        return watch.look(step, kl, float(size), gap, torch.full((50,), nats))

    assert look(50, 80.0) is look(90, 80.0) is None
    finding = look(100, 80.0)
    assert finding.startswith(f"−ELBO is {80 + 2 * size:.1f} nats, and the frequencies")
    assert finding.endswith("; train longer (--train.steps 500)")
    watch = Watch(Objective(Schedule.constant(1.0), 100), size, LONG, minutes=10.0)
    assert look(100, 80.0).endswith("; train longer (--train.steps 500 --train.minutes 50)")
    watch = Watch(Objective(Schedule.constant(1.0), 100), size, LONG)
    assert look(100, 50.0) is None


@pytest.mark.parametrize(
    ("before", "remedy"),
    [(50.0, "train for fewer steps (--train.steps 30)"), (70.0, "use more text")],
)
def test_a_bound_that_was_lower_before_is_overfitted(before, remedy):
    """More training, the advice to a model that has not begun to learn, would make it worse."""
    watch = Watch(Objective(Schedule.constant(1.0), 100), 4, LONG)
    looks = said(watch, (30, 2, 9.0, before), (60, 2, 9.0, 80.0))
    after = Watch(Objective(Schedule.constant(1.0), 100), 4, LONG)
    after.restore(json.loads(json.dumps(watch.state())))  # a stop forgets nothing
    [finding] = said(after, (100, 2, 9.0, 90.0))
    assert looks == [None, None]
    assert finding.startswith(f"−ELBO is 92.0 nats and was {before + 2:.1f} before")
    assert finding.endswith(f"; {remedy}")


def test_no_finding_advises_the_opposite_of_another():
    """Every order of latents and of bounds, in every kind of run: no flag twice."""
    states = {
        "dead": (0, 0, 5),
        "full": (300, 60, 5),
        "alive": (50, 60, 5),
        "unread": (9, 0, 5),
        "worse": (9, 60, 90),
    }
    runs = itertools.product((0.05, 1.0), (0.0, 4.0, 60.0), itertools.permutations(states, 3))
    several = 0
    for beta, free_bits, order in runs:
        watch = Watch(Objective(Schedule.constant(beta), 100, free_bits), 8, LONG)
        twice = [states[name] for name in order for _ in range(2)]
        looks = [(10 * n + 50, *state) for n, state in enumerate(twice)]
        found = [finding for finding in said(watch, *looks) if finding]
        flags = [flag for finding in found for flag in re.findall(r"--\S+", finding)]
        assert len(flags) == len(set(flags)), (beta, free_bits, order, found)
        assert watch.remedy == (found[-1].rpartition("; ")[2] if found else "")
        several += len(found) > 1
    assert several > 5


@pytest.mark.parametrize("state", [(0, 0), (9, 0), (300, 60)])
def test_where_words_are_unknown_the_one_advice_is_another_tokenizer(state):
    watch = Watch(Objective(Schedule.constant(1.0), 100), 8, LONG, unknown=0.3)
    first, *others = said(watch, *((step, *state, 5.0) for step in (10, 60, 70, 100)))
    assert first == (
        "30% of the words are unknown: no figure says much; "
        "train with another tokenizer (--data.tokenizer bpe)"
    )
    assert others == [None] * 3


def test_frequencies_are_those_of_the_predicted_tokens(settings_of):
    """Texts of one word: p(word) and p(end) are (count + 1) / (all + V)."""
    seen, asked = ["a"] * 6 + ["b"] * 2, ["a", "b b", "b a b"]
    codec = build(settings_of(), seen).codec
    found = codec.prepare(asked).nats_by_frequency(codec.prepare(seen))
    size = len(codec.decoder_tokenizer)
    p = {"a": 7 / (16 + size), "b": 3 / (16 + size), "end": 9 / (16 + size)}
    expected = [[*text.split(), "end"] for text in asked]
    assert found == pytest.approx(
        [-sum(math.log(p[token]) for token in each) for each in expected]
    )
