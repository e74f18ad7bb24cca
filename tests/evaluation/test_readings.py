"""Planted metrics: each reading appears exactly where it should, and says what it should."""

import itertools
import math
import re

import pytest

from isthmus.evaluation.readings import OF_THE_LATENT, RULES, read, readings_of
from isthmus.evaluation.verdicts import Measured, prior_mismatch
from isthmus.runs.card import metric_rows

HEALTHY = {
    "sentences": 1000,
    "tokens": 13000,
    "iw_samples": 20,
    "nll_iw": 16.3,
    "nll_iw_se": 0.1,
    "reconstruction": 0.6,
    "kl": 16.0,
    "kl_se": 0.1,
    "elbo": -16.6,
    "inference_gap": 0.3,
    "latent_size": 4,
    "prior": "standard",
    "mutual_information": 5.0,
    "mutual_information_se": 0.01,
    "mutual_information_limit": math.log(1000),
    "mutual_information_saturated": False,
    "active_units": 4.0,
    "active_units_se": 0.0,
    "swap_gap": 40.0,
    "swap_gap_se": 0.5,
    "aggregate_mean": [0.0, 0.1, -0.1, 0.0],
    "aggregate_standard_deviation": [1.0, 0.95, 1.05, 1.0],
    "exact_match": 0.95,
    "exact_match_se": 0.01,
    "bleu": 97.0,
    "ppl_word": 3.6,
    "unknown_tokens": 0,
    "cut": 0,
    "prior_unique": 0.98,
    "data_unique": 1.0,
    "per_label": {"a": {"sentences": 600}, "b": {"sentences": 400}},
    "label_accuracy": 0.99,
    "label_accuracy_se": 0.003,
    "calibration_error": 0.012,
    "calibration_error_se": 0.003,
    "calibration_error_if_perfect": 0.010,
    "calibration_error_if_perfect_se": 0.003,
    "label_leakage": 0.01,
    "label_leakage_se": 0.01,
    "meaning": 0.97,
    "meaning_nearest": 0.8,
    "meaning_share": 0.95,
    "walk_pairs": 200,
    "walk_ends_reproduced": 0.8,
    "walk_falls": 0.95,
    "walk_rises": 0.93,
    "walk_stays": 0.02,
    "judge_unit": "word",
    "judged_ppl": 50.0,
    "judged_ppl_midpoints": 55.0,
    "judged_ppl_samples": 60.0,
    "fluency_midpoints": 1.1,
    "fluency_samples": 1.2,
}
LIMIT = 15.92


def readings(limit=LIMIT, beta=1.0, **changes):
    found = read(Measured(HEALTHY | changes, limit, beta))
    return {reading.key: reading for reading in found}


def test_a_perplexity_of_twenty_digits_is_not_shown():
    bits = {"bits_per_character": 9.5}
    assert "ppl_word" in readings(ppl_word=9e4, **bits)
    assert not {"ppl_word", "bits_per_character"} & readings(ppl_word=3e19, **bits).keys()
    shown, vain = (metric_rows({"elbo": -3.0, "ppl_word": x, **bits}) for x in (9e4, 3e19))
    assert [name for name, *_ in shown] == ["ELBO", "perplexity"]
    assert [name for name, *_ in vain] == ["ELBO"]


def test_a_healthy_run_reads_well_and_without_a_warning():
    found = readings()
    assert {reading.level for reading in found.values()} == {"good", "note"}
    notes = {key for key, reading in found.items() if reading.level == "note"}
    assert notes == {"ppl_word"}  # a number that is neither good nor bad
    assert found["kl"].value == 16.0
    assert found["kl"].standard_error == 0.1
    assert found["kl"].unit == "nats per sentence"
    assert all(reading.reading and reading.why for reading in found.values())


COLLAPSE = {
    "kl": 0.02,
    "reconstruction": 16.3,
    "swap_gap": 0.01,
    "swap_gap_se": 0.01,
    "active_units": 0.0,
    "mutual_information": 0.01,
    "aggregate_mean": [0.0] * 4,
    "aggregate_standard_deviation": [1.0] * 4,
}

PLANTED = [
    # what is changed, the row, its level, words of its reading
    (COLLAPSE, "kl", "warning", "KL 0.02 nats: z is not used, the posterior has collapsed"),
    (COLLAPSE, "swap_gap", "warning", "the decoder ignores z"),
    (COLLAPSE, "active_units", "warning", "none of 4 dimensions"),
    (COLLAPSE, "mutual_information", "warning", "says nothing"),
    (COLLAPSE, "aggregate_mismatch", "note", "only because every posterior is"),
    ({"swap_gap": 0.05}, "kl", "warning", "pays 16.0 nats for a code that the decoder does not"),
    ({"swap_gap": 3.0, "swap_gap_se": 1.6}, "swap_gap", "warning", "ignores z"),
    ({"swap_gap": 3.4, "swap_gap_se": 1.6}, "swap_gap", "good", "the decoder uses z"),
    (
        {"swap_gap": 1.0, "swap_gap_se": 0.1, "reconstruction": 15.0},
        "swap_gap",
        "note",
        "uses z a little",
    ),
    (
        {"swap_gap_per_latent": [9.0, 0.5, 0.0], "swap_gap_per_latent_se": [0.2, 0.3, None]},
        "swap_gap",
        "note",
        "when 2 of the 3 latents, one at a time",
    ),
    (
        {"swap_gap_per_latent": [9.0, 0.5], "swap_gap_per_latent_se": [0.2, 0.1]},
        "swap_gap",
        "good",
        "the decoder uses z",
    ),
    ({"kl": 1.0, "reconstruction": 15.0}, "kl", "note", "KL 1.0 of 16.0 nats"),
    ({"kl": 0.05, "swap_gap": None}, "kl", "warning", "collapsed"),
    ({"mutual_information_saturated": True}, "mutual_information", "note", "ln N = 6.91"),
    ({"mutual_information": 0.8}, "mutual_information", "note", "a choice among 2.2"),
    ({"active_units": 3.0}, "active_units", "note", "3 of 4 dimensions are used; 1 dimension"),
    ({"kl_per_dimension": [7, 0.05, 6, 3]}, "active_units", "note", "1 of them by less than 0.1"),
    ({"aggregate_standard_deviation": [3.0] * 4}, "aggregate_mismatch", "warning", "wider"),
    ({"aggregate_standard_deviation": [0.5] * 4}, "aggregate_mismatch", "note", "narrower"),
    (
        {"aggregate_standard_deviation": [1, 1, 0.1, 1]},
        "aggregate_mismatch",
        "note",
        "dimension 2 is farthest off, with a spread of 0.10",
    ),
    ({"aggregate_mean": [0.0, 4.0, 0.0, 0.0]}, "aggregate_mismatch", "warning", "dimension 1"),
    ({"kl": 19.0}, "aggregate_mismatch", "note", "holds 15.9 nats and z spends 19.0"),
    ({"kl": 28.5}, "aggregate_mismatch", "warning", "12.6 nats or more from the prior"),
    ({"inference_gap": 3.2}, "inference_gap", "note", "3.2 nats looser"),
    ({"reconstruction": 13.0}, "reconstruction", "note", "probability 37%"),
    ({"exact_match": 0.04}, "exact_match", "note", "at most the theme"),
    ({"exact_match": 0.6}, "exact_match", "note", "60% are reconstructed"),
    ({"bleu": 20.0}, "bleu", "note", "of 100"),
    ({"unknown_tokens": 7}, "unknown_tokens", "warning", "do not compare across vocabularies"),
    ({"unknown_tokens": 7000}, "unknown_tokens", "warning", "another tokenizer"),
    ({"ppl_word": None, "bits_per_character": 2.0}, "bits_per_character", "note", "no words"),
    (COLLAPSE | {"unknown_tokens": 7000}, "kl", "warning", "another tokenizer"),
    ({"prior_unique": 0.3}, "prior_unique", "warning", "over and over"),
    ({"prior_unique": 0.8}, "prior_unique", "note", "80% of a batch"),
    ({"cut": 3}, "cut", "note", "longer than the model reads"),
    ({"label_accuracy": 0.603}, "label_accuracy", "warning", "Nothing was learned"),
    ({"label_accuracy": 0.7}, "label_accuracy", "good", "most common one: 60%"),
    ({"calibration_error": 0.08}, "calibration_error", "note", "differ by 8.0%"),
    ({"label_leakage": 0.3}, "label_leakage", "note", "30% more texts"),
    ({"meaning_share": 0.5}, "meaning_share", "note", "50% of the way from a random text"),
    (
        {"meaning": 0.6, "meaning_nearest_of": "training texts"},
        "meaning_share",
        "note",
        "the nearest of the training texts comes nearer (cosine 0.60 against 0.80)",
    ),
    ({"content_kept": 0.4}, "content_kept", "note", "40% of the words"),
    ({"walk_ends_reproduced": 0.1}, "walk_ends_reproduced", "note", "10% of 200 walks"),
    ({"walk_falls": 0.5}, "walk_rises", "note", "50% of the steps lead away"),
    ({"fluency_midpoints": 1.7}, "fluency_midpoints", "warning", "not fluent"),
    ({"fluency_samples": 2.0}, "fluency_samples", "warning", "isthmus prior"),
    ({"fluency_samples": 0.4}, "fluency_samples", "note", "blander than real texts"),
    (
        {"unknown_words_samples": 0.3, "unknown_words_samples_se": 0.02, "unknown_words": 0.1},
        "fluency_samples",
        "warning",
        "30% of the words are in no other text (10% of real ones); fit a prior",
    ),
    ({"meaning_radius": 0.6, "posterior_radius": 0.1}, "meaning_radius", "note", "moved by 0.60"),
]


@pytest.mark.parametrize(("changes", "key", "level", "words"), PLANTED)
def test_what_is_planted_is_read(changes, key, level, words):
    found = readings(**changes)[key]
    assert (found.level, words in found.reading) == (level, True), found.reading


@pytest.mark.parametrize(("changes", "key", "level", "words"), PLANTED)
def test_and_is_not_read_from_a_healthy_run(changes, key, level, words):
    del changes, level
    before = readings().get(key)
    common = {"the decoder uses z", "most common one: 60%"}  # what the healthy run says as well
    assert before is None or words in common or words not in before.reading


@pytest.mark.parametrize(
    ("nll", "level", "words"),
    [
        (16.3, "good", "0.38 nats (2.4%) above"),
        (18.0, "note", "2.08 nats (13.1%) above"),
        (15.7, "good", "0.22 nats below"),  # within three errors: chance
        (15.5, "warning", "impossible for any model"),
    ],
)
def test_a_known_entropy_is_the_measure(nll, level, words):
    found = readings(nll_iw=nll)["nll_iw"]
    assert (found.level, words in found.reading) == (level, True), found.reading
    assert readings(limit=None, nll_iw=nll)["nll_iw"].level == "note"


def test_the_reading_says_what_was_charged():
    assert "only 0.3 of it" in readings(beta=0.3)["kl"].reading
    assert "charged it 100 times" in readings(beta=100.0)["kl"].reading
    assert "β" not in readings()["kl"].reading


def test_of_pictures_a_small_share_of_the_bound_is_no_fault():
    little = {"kl": 5.0, "reconstruction": 11_000.0, "nll_iw": 11_000.0}
    assert "writes nearly all by itself" in readings(**little)["kl"].reading
    for kind in ("pictures", "examples"):
        assert readings(**little, **{kind: 1000})["kl"].level == "good"
        assert kind[:-1] in readings(**little, **{kind: 1000})["kl"].reading


def test_the_bracket_around_the_mismatch_is_shown_unless_information_is_at_its_ceiling():
    assert "KL − MI: at most 11.00" in readings()["aggregate_mismatch"].reading
    saturated = readings(mutual_information_saturated=True)
    assert "MI" not in saturated["aggregate_mismatch"].reading


def test_gaps_need_no_known_entropy_and_no_standard_prior():
    """I(x; z) ≤ H(x) ≤ −E log p(x): the bound on the likelihood will do."""
    found = readings(limit=None, kl=20.3, prior="mixture")["aggregate_mismatch"]
    assert found.value == pytest.approx(4.0)
    assert "aggregate_mismatch" not in readings(limit=None, kl=12.0, prior="mixture")
    found = readings(limit=None, kl=20.3, nll_iw=None)["aggregate_mismatch"]
    assert found.value == pytest.approx(math.fsum(prior_mismatch(HEALTHY)))


def test_the_mismatch_of_normals_is_their_divergence():
    """KL(N(m, s²) ‖ N(0, 1)) by quadrature, for each dimension."""
    metrics = {"aggregate_mean": [0.5, -1.0], "aggregate_standard_deviation": [0.7, 2.0]}
    step = 1e-3
    for place, found in enumerate(prior_mismatch(metrics)):
        m, s = (metrics[key][place] for key in metrics)
        total = 0.0
        for index in range(-20_000, 20_000):
            x = m + index * step
            density = math.exp(-0.5 * ((x - m) / s) ** 2) / (s * math.sqrt(2 * math.pi))
            ratio = -0.5 * ((x - m) / s) ** 2 - math.log(s) + 0.5 * x**2
            total += density * ratio * step
        assert found == pytest.approx(total, abs=1e-6)
    assert prior_mismatch(metrics | {"prior": "mixture"}) is None
    del metrics["aggregate_mean"]  # a run without it: the bound can only be lower
    assert math.fsum(prior_mismatch(metrics)) < 1.5


def test_gaps_are_laid_at_the_right_door():
    refined = {"refine_steps": 20, "inference_gap": 4.0}
    lax = readings(**refined, amortisation_gap=3.0, approximation_gap=0.2)
    assert "3.0 nats better than the encoder's" in lax["amortisation_gap"].reading
    assert lax["approximation_gap"].level == "good"
    assert "--refine" not in lax["inference_gap"].reading
    stiff = readings(**refined, amortisation_gap=0.2, approximation_gap=3.0)
    assert stiff["amortisation_gap"].level == "good"
    assert "too simple" in stiff["approximation_gap"].reading


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"inference_gap": 0.5}, []),
        ({"inference_gap": 3.0}, ["--refine 20"]),
        (
            {"inference_gap": 3.0, "amortisation_gap": 2.5, "approximation_gap": 0.5},
            ["by the latter", "than the encoder's"],
        ),
        (
            {"inference_gap": 3.0, "amortisation_gap": 0.5, "approximation_gap": 2.5},
            ["by the latter", "Gaussian"],
        ),
        (
            {"inference_gap": 6.0, "amortisation_gap": 2.5, "approximation_gap": 2.5},
            ["by the latter", "than the encoder's", "Gaussian"],
        ),
        ({"inference_gap": 0.5, "amortisation_gap": 0.2, "approximation_gap": 0.3}, []),
    ],
)
def test_a_loose_bound_is_laid_at_the_right_door(metrics, said):
    gaps = ("inference_gap", "amortisation_gap", "approximation_gap")
    rows = readings(**{"refine_steps": 20, **metrics})
    found = [rows[key].reading for key in gaps if key in rows and rows[key].level != "good"]
    assert len(found) == len(said)
    for line, part in zip(found, said, strict=True):
        assert part in line


def test_a_language_model_is_not_blamed_for_having_no_latent():
    plain = {"latent_size": 0, "kl": 0.0, "swap_gap": 0.0, "active_units": 0.0}
    found = readings(**plain)
    assert not set(found) & OF_THE_LATENT
    assert "exact" in readings(limit=None, **plain)["nll_iw"].reading
    assert not any(" z " in reading.reading for reading in found.values())
    assert {reading.level for reading in found.values()} == {"good", "note"}


def test_clusters_that_all_texts_share_are_a_warning():
    without = {"label_accuracy": None, "label_information": 0.0}
    assert readings(**without, labels_used=1)["labels_used"].level == "warning"
    assert readings(**without, labels_used=3)["labels_used"].level == "good"


def test_pictures_are_called_pictures():
    metrics = {
        **{"pictures": 500, "nll_iw": 90.0, "kl": 25.0, "reconstruction": 66.0},
        **{"latent_size": 2, "swap_gap": 50.0, "squared_error": 0.01, "bits_per_dimension": 0.2},
    }
    found = {reading.key: reading for reading in read(Measured(metrics))}
    bound = {"nll_iw", "kl", "reconstruction", "swap_gap"}
    assert set(found) == bound | {"squared_error", "bits_per_dimension"}
    assert found["kl"].unit == "nats per picture"
    assert "off by 10%" in found["squared_error"].reading
    assert not any("sentence" in f"{r.name}{r.unit}{r.reading}" for r in found.values())


def test_an_unmeasured_run_has_no_readings_and_every_rule_its_reason():
    assert read(Measured({})) == []
    assert len({rule.key for rule in RULES}) == len(RULES)
    assert all(rule.read.__doc__ for rule in RULES)


@pytest.mark.parametrize("remedy", ["", "raise β (--objective.beta 0.5)"])
def test_readings_advise_one_remedy_which_is_that_of_the_run(remedy):
    latents = [(kl, gap) for kl in (0.05, 3.0, 20.0, 90.0) for gap in (0.01, 3.0, 40.0)]
    advised = set()
    for (kl, gap), spread, beta in itertools.product(latents, (0.2, 1.0, 4.0), (0.05, 1.0)):
        changes = {"kl": kl, "swap_gap": gap, "swap_gap_se": 0.01, "nll_iw": 60.0}
        changes |= {"reconstruction": 55.0, "aggregate_standard_deviation": [spread] * 4}
        found = read(Measured(HEALTHY | changes, None, beta, 700, remedy))
        said = " ".join(reading.reading for reading in found)
        flags = re.findall(r"--\w+\.[^)]*", said)
        assert len(flags) <= 1, said
        assert "larger β" not in said
        advised |= {*flags}
    assert advised == (
        {"--objective.beta 0.5"} if remedy else {"--objective.beta 0.1", "--train.steps 3500"}
    )


def test_no_limit_is_held_against_a_model_that_predicts_less_than_the_text():
    below = HEALTHY | {"nll_iw": 2.0}
    for changes, level in (({}, "warning"), ({"unknown_tokens": 9}, "note"), ({"cut": 9}, "note")):
        rows = {row.key: row.level for row in readings_of(below | changes, {}, LIMIT)}
        assert rows["nll_iw"] == level
