"""Control codes of a language model: p(x|c) by hand, codes summed out, guidance, added codes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch
from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor

from isthmus.control.sampling import Penalty, keep_nucleus
from isthmus.data import tokens
from isthmus.data.denoise import Denoising
from isthmus.errors import IsthmusError
from isthmus.evaluation.attribution import (
    _pieces,
    attribute,
    attribute_tokens,
    code_metrics,
    log_likelihoods,
)
from isthmus.evaluation.labels import evaluate_labels
from isthmus.explore.walks import decode_as, sample
from isthmus.models.build import build
from isthmus.models.codec import TextExamples, make_codec
from isthmus.models.generation import Generation
from isthmus.models.language import LanguageModel
from isthmus.runs.bundle import load, save
from tiny import LABELS, TEXTS, loud, make, settings, system

IGNORED, NOTHING = -100, torch.zeros(1, 0)
HIDDEN = (0, 1, 2, 4)  # pad, start, end and mask, which no text shows


@pytest.fixture
def model() -> LanguageModel:
    return system("codes")


def collated(model, labels, **options):
    return model.codec.prepare(TEXTS, labels).collate(
        range(len(TEXTS)), noise_shape=(0,), **options
    )


@torch.no_grad()
def stock_losses(model, text: str, place: int) -> torch.Tensor:
    """−log p(x_t|x_<t, c) by the stock model alone, the code's vector in the first place, [T]."""
    ids = torch.tensor([[*model.codec.ids(text), model.config.decoder_end]])
    vectors = model.decoder.stack.get_input_embeddings()(ids[:, :-1])
    code = model.bridge.linear.weight[:, place + 1].view(1, 1, -1)  # the null code is column 0
    logits = model.decoder.model(inputs_embeds=torch.cat([code, vectors], dim=1)).logits
    return -logits.log_softmax(-1).gather(2, ids.unsqueeze(2))[0, :, 0]


@torch.no_grad()
def test_the_likelihood_under_a_code_is_the_stock_models(model):
    """The first word counts; the code is read and never predicted."""
    found = log_likelihoods(model, model.codec.prepare(TEXTS))
    for row, text in zip(found, TEXTS, strict=True):
        for place in range(2):
            expected = -stock_losses(model, text, place).sum()
            torch.testing.assert_close(row[place].float(), expected, atol=1e-5, rtol=1e-5)


def test_training_reads_the_code_and_the_null_code_where_none_is_told(model):
    labels = ["down", None, "up", None, "up", "down"]
    batch = collated(model, labels)
    assert batch["labels"].tolist() == [0, -1, 1, -1, 1, 0]
    found = model(**batch).reconstruction
    expected = [
        stock_losses(model, text, -1 if label is None else ["down", "up"].index(label)).sum()
        for text, label in zip(TEXTS, labels, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)
    hidden = batch | {"dropped": torch.ones(len(TEXTS), dtype=torch.bool)}
    null = torch.stack([stock_losses(model, text, -1).sum() for text in TEXTS])
    torch.testing.assert_close(model(**hidden).reconstruction, null, atol=1e-5, rtol=1e-5)


def test_codes_are_summed_out_and_judged_by_bayes(model):
    """Log p(x) = log Σ p(c) p(x|c); a uniform prior ranks as perplexities do; another one adds."""
    found = attribute(model, TEXTS)
    assert found.log_posterior.exp().sum(-1).tolist() == pytest.approx([1] * 6)
    assert torch.equal(found.log_posterior.argmax(-1), found.log_likelihood.argmax(-1))
    stored = attribute(model, TEXTS, "stored")
    prior = torch.tensor([1.0, 3.0]).double() / 4  # one text is told "down", three "up"
    joint = found.log_likelihood + prior.log()
    torch.testing.assert_close(stored.log_posterior, joint - joint.logsumexp(-1, keepdim=True))
    exact = model.terms(TEXTS).reconstruction
    torch.testing.assert_close(-stored.log_marginal.float(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.classify(TEXTS).double(), stored.log_posterior.exp(),
                               atol=1e-5, rtol=1e-5)  # fmt: skip
    with pytest.raises(IsthmusError, match=r"prior: got \[1\.0\], expected 2 numbers above 0"):
        attribute(model, TEXTS, [1.0])


def test_codes_are_judged_under_their_frequencies_and_the_null_code_beside_them(model):
    frequent = copy.deepcopy(model)
    frequent.labels.counts.copy_(torch.tensor([1.0, 1e6]))
    examples = frequent.codec.prepare(TEXTS)
    each, p = log_likelihoods(frequent, examples), frequent.classify(TEXTS)
    labels = [frequent.config.label_names[place] for place in p.argmax(-1)]
    assert (each.argmax(-1) != p.argmax(-1)).any(), "the prior decides nothing"
    found = code_metrics(frequent, examples, each, labels, 0)
    other = ["up", "down", "up", "up", "down", "up"]
    [down, up] = code_metrics(frequent, examples, each, other, 0)["per_label"].values()
    for one, place, rows in ((down, 0, [1, 4]), (up, 1, [0, 2, 3, 5])):
        nats = -each[rows, place]
        assert one["nll"] == pytest.approx(nats.mean().item())
        tokens = examples.predicted[rows].sum()
        assert one["nll_per_token"] == pytest.approx(nats.sum().item() / tokens)
    truth = torch.nn.functional.one_hot(p.argmax(-1), 2)
    brier = (p - truth).square().sum(-1).mean()
    assert found["brier_score"] == pytest.approx(brier.item(), abs=1e-5)
    null = model(**collated(model, [None] * 6)).reconstruction.mean()
    assert found["null_nll"] == pytest.approx(null.item(), rel=1e-5)
    nothing = torch.zeros(6, 0)
    assert evaluate_labels(frequent, examples, nothing, labels, 0)["label_accuracy"] == 1


def test_codes_that_change_nothing_leave_the_prior(model):
    same = copy.deepcopy(model)
    with torch.no_grad():
        same.bridge.linear.weight[:] = same.bridge.linear.weight[:, :1]
    found = attribute(same, TEXTS, "stored").log_posterior.exp()
    torch.testing.assert_close(found, found.new_tensor([[0.25, 0.75]]).expand(6, 2))


def test_tokens_add_up_to_their_text(model):
    whole = attribute(model, TEXTS)
    for text, each, total, belief in zip(
        TEXTS,
        attribute_tokens(model, TEXTS),
        whole.log_likelihood,
        whole.log_posterior,
        strict=True,
    ):
        assert "".join(each.tokens) == text
        torch.testing.assert_close(each.log_likelihood.sum(0), total, atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(each.log_posterior[-1], belief, atol=1e-5, rtol=1e-5)
        odds = each.log_likelihood.diff(dim=1)
        torch.testing.assert_close(each.evidence, torch.cat([-odds, odds], dim=1) / 2)
        first = stock_losses(model, text, 1)[0].double()
        torch.testing.assert_close(-each.log_likelihood[0, 1], first, atol=1e-5, rtol=1e-5)


def test_codes_are_dropped_at_their_rate_by_seed_epoch_and_place(model):
    many = model.codec.prepare(TEXTS * 400, ["up"] * 2400)
    from isthmus.data.denoise import Denoising

    def dropped(rate, seed=1, epoch=2, rows=range(2400)):
        batch = many.collate(rows, seed=seed, epoch=epoch, denoising=Denoising(code_dropout=rate))
        return batch.get("dropped")

    found = dropped(0.2)
    assert abs(found.double().mean() - 0.2) < 3 * (0.2 * 0.8 / 2400) ** 0.5
    assert dropped(0.0) is None
    assert torch.equal(dropped(0.2, rows=[7, 3]), found[[7, 3]])
    assert not torch.equal(dropped(0.2, epoch=3), found)


def test_a_detail_is_read_and_never_predicted():
    """[c, detail, start, x]: targets are those of the text; left out at its rate, and with c."""
    made = settings("gpt2", "start", kind="language-model", labels="given")
    made = dataclasses.replace(
        made, data=dataclasses.replace(made.data, code_separator=":", maximum_length=12)
    )
    labels = ["up:a b", "down", "up", "down:c", "up: ", "down"]
    model = loud(build(made, TEXTS, labels)).eval()
    assert model.config.label_names == ("down", "up")
    assert model.labels.log_prior.exp().tolist() == pytest.approx([0.5, 0.5])
    examples = model.codec.prepare(TEXTS, labels)
    batch = examples.collate([0, 1])
    [a, b, c] = (model.codec.ids(letter)[0] for letter in "abc")
    start, end = model.config.decoder_start, model.config.decoder_end
    assert batch["decoder_input_ids"][0].tolist() == [start, a, b, start, a, b, c]
    assert batch["targets"][0].tolist() == [IGNORED] * 3 + [a, b, c, end]
    assert batch["targets"][1, :2].tolist() == [c, end]
    assert examples.lengths[0] == len(batch["targets"][0]) + 1
    for rates in ({"code_dropout": 1.0}, {"detail_dropout": 1.0}):
        hidden = examples.collate([0, 1], denoising=Denoising(**rates))
        assert hidden["decoder_input_ids"][0].tolist() == [start, a, b, c]
        assert hidden["targets"][0].tolist() == [a, b, c, end]
    with torch.no_grad():
        ids = torch.tensor([[a, b, start, a, b, c]])
        vectors = model.decoder.stack.get_input_embeddings()(ids)
        code = model.bridge.linear.weight[:, 2].view(1, 1, -1)
        logits = model.decoder.model(inputs_embeds=torch.cat([code, vectors], dim=1)).logits
        log_p = logits.log_softmax(-1)[0, 3:].gather(1, torch.tensor([[a], [b], [c], [end]]))
        found = model(**batch | {"label_noise": torch.zeros(2, 2)}).reconstruction[0]
    torch.testing.assert_close(found, -log_p.sum(), atol=1e-5, rtol=1e-5)
    [written] = model.decode(NOTHING, Generation(max_new_tokens=1, label="up", detail="a b"))
    assert model.codec.ids(written)[:1] == [log_p.new_tensor(logits[0, 3].tolist()).argmax()]


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.0, 1.0, 1.5, 3.0])
def test_guidance_is_that_of_transformers(model, scale):
    """With codes that are the embeddings of two tokens, so that the stock model can read them."""
    tokens = copy.deepcopy(model)
    null, code = 3, 4
    weight = tokens.decoder.stack.get_input_embeddings().weight
    tokens.bridge.linear.weight[:, 0], tokens.bridge.linear.weight[:, 2] = (
        weight[null],
        weight[code],
    )
    prompt = "b a"
    expected = tokens.decoder.model.generate(
        torch.tensor([[code, *model.codec.ids(prompt)]]),
        negative_prompt_ids=torch.tensor([[null, *model.codec.ids(prompt)]]),
        generation_config=GenerationConfig(
            max_new_tokens=7, guidance_scale=scale, eos_token_id=2, pad_token_id=0
        ),
    )[0, 1:].tolist()
    if scale == 0:  # transformers takes 0 for "none"; there it is the null code alone
        ids = torch.tensor([[null, *model.codec.ids(prompt)]])
        expected = tokens.decoder.model.generate(
            ids, max_new_tokens=7, eos_token_id=2, pad_token_id=0, do_sample=False
        )[0, 1:].tolist()
    written = Generation(max_new_tokens=7, label="up", prompt=prompt, guidance=scale)
    [text] = tokens.decode(NOTHING, written)
    assert model.codec.ids(text) == [i for i in expected if i not in HIDDEN]


def test_guidance_needs_something_to_steer_away_from(model):
    with pytest.raises(IsthmusError, match="no null code to steer away from"):
        system("labels").decode(torch.zeros(1, 3), Generation(label="up", guidance=2.0))
    against = Generation(max_new_tokens=6, label="up", guidance=2.0, against="down")
    assert model.decode(NOTHING, against) != model.decode(
        NOTHING, Generation(max_new_tokens=6, label="down")
    )
    for steered in (Generation(guidance=2.0), Generation(mixture=(("up", 1.0),))):
        with pytest.raises(IsthmusError, match="has none"):
            system("language").decode(NOTHING, steered)


@torch.no_grad()
@pytest.mark.parametrize("top_p", [0.2, 0.5, 1.0])
def test_guidance_within_the_nucleus_of_the_code_by_hand(model, top_p):
    """Greedy text of the two codes' logits: the best steered token of the code's nucleus."""
    ids: list[int] = model.codec.ids("b")
    for _ in range(7):
        words = model.decoder.stack.get_input_embeddings()(torch.tensor([ids]))
        codes = (model.bridge.linear.weight[:, place].view(1, 1, -1) for place in (2, 0))
        read = (torch.cat([code, words], dim=1) for code in codes)
        up, null = (model.decoder.model(inputs_embeds=row).logits[:, -1] for row in read)
        steered = null + 4 * (up - null)
        ids.append(int(steered.where(keep_nucleus(up, top_p).isfinite(), -math.inf).argmax()))
    asked = Generation(7, label="up", prompt="b", guidance=4.0, guidance_top_p=top_p)
    [text] = model.decode(NOTHING, asked)
    assert 2 not in ids[1:-1]
    assert model.codec.ids(text) == [i for i in ids if i not in HIDDEN]


def test_texts_move_away_from_their_own_code():
    """Reconstructions asked to become "up" steer away from what they are, and not from nothing."""
    model = system("labels-both")
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    own = ["up", "down", "down", "up"]
    asked = Generation(max_new_tokens=6, label="up", guidance=2.5)
    found = decode_as(model, z, own, asked)
    away = model.decode(z, dataclasses.replace(asked, against="down"))
    plain = model.decode(z, Generation(max_new_tokens=6, label="up"))
    assert found == [plain[0], away[1], away[2], plain[3]]
    assert away != plain


def test_a_mixture_of_one_code_is_that_code(model):
    one = Generation(max_new_tokens=6, mixture=(("up", 1.0),))
    assert model.decode(NOTHING, one) == model.decode(
        NOTHING, Generation(max_new_tokens=6, label="up")
    )
    halves = Generation(max_new_tokens=6, mixture=(("up", 0.5), ("up", 0.5)))
    assert model.decode(NOTHING, halves) == model.decode(NOTHING, one)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_penalty_has_its_full_force_on_every_route(model, beams):
    """Seen tokens cost more than any logit, so none comes twice; on log-probabilities it may."""
    plain = Generation(max_new_tokens=5, label="up", beams=beams)
    [before] = model.decode(NOTHING, plain)
    assert len(set(before.split())) < len(before.split())
    strict = dataclasses.replace(plain, penalty=Penalty(1e9, "additive"))
    [text] = model.decode(NOTHING, strict)
    assert len(set(text.split())) == len(text.split()) > 0
    exempt = dataclasses.replace(strict, exempt=tuple(range(8)))
    assert model.decode(NOTHING, exempt) == [before]


def test_a_penalty_forgets_the_prompt_if_it_is_told_to(model):
    """Prompts whose last word the model would write again."""
    plain = Generation(max_new_tokens=1, label="up")
    prompts = [" ".join(words) for words in itertools.product("abc", repeat=3)]
    repeated = 0
    for prompt in prompts:
        asked = dataclasses.replace(plain, prompt=prompt)
        [text] = model.decode(NOTHING, asked)
        new = text.split()[3:]
        if not new or new[0] not in prompt:
            continue
        for counts in (False, True):
            penalty = Penalty(1e9, "additive", prompt=counts)
            [again] = model.decode(NOTHING, dataclasses.replace(asked, penalty=penalty))
            assert (again == text) == (not counts)
        repeated += 1
    assert repeated


def test_the_prompt_counts_as_seen_unless_it_is_told_not_to(model):
    strict = Generation(max_new_tokens=1, label="up", penalty=Penalty(1e9, "additive"))
    [best] = model.decode(NOTHING, dataclasses.replace(strict, prompt="c"))
    again = best.split()[-1]
    [other] = model.decode(NOTHING, dataclasses.replace(strict, prompt=f"c {again} c"))
    assert other.split()[3:] != [again]
    free = dataclasses.replace(
        strict, prompt=f"c {again} c", penalty=Penalty(1e9, "additive", prompt=False)
    )
    unpenalised = dataclasses.replace(free, penalty=Penalty())
    assert model.decode(NOTHING, free) == model.decode(NOTHING, unpenalised)


def test_added_codes_leave_the_old_ones_as_they_are(model, tmp_path):
    grown = copy.deepcopy(model)
    before = log_likelihoods(model, model.codec.prepare(TEXTS))
    null = log_likelihoods(model, model.codec.prepare(TEXTS), places=[-1])
    grown.add_codes(["sideways", "up", None, "sideways"])
    assert grown.config.label_names == ("down", "up", "sideways")
    save(grown, tmp_path / "run", {"metrics": {}})
    again = load(tmp_path / "run")
    found = log_likelihoods(again, again.codec.prepare(TEXTS))
    assert torch.equal(found[:, :2], before)
    assert torch.equal(found[:, 2:], null)  # a new code begins as "no code"
    assert again.labels.log_prior.exp().tolist() == pytest.approx([1 / 7, 4 / 7, 2 / 7])
    with pytest.raises(IsthmusError, match="as wide as it was built"):
        copy.deepcopy(system("codes-lstm")).add_codes(["sideways"])


def test_rivals_are_judged_by_bayes():
    """With all other codes as rivals, classification is −log p(c|x); without a code it is 0."""
    labels = ["x", "y", "z", None, "x", "y"]
    made = settings("gpt2", "start", kind="language-model", labels="given")
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, rivals=2))
    model = loud(build(made, TEXTS, labels)).eval()
    examples: TextExamples = model.codec.prepare(TEXTS, labels)
    batch = examples.collate(range(6), noise_shape=(0,))
    found = model(**batch).extra["classification"]
    exact = model.label_posterior(batch)
    expected = [0.0 if p < 0 else -exact[i, p].item() for i, p in enumerate(batch["labels"])]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    model.config.rivals = 1  # one other code for each text, by its noise
    pair = model(**batch).extra["classification"]
    assert (pair <= found + 1e-5).all()
    assert pair[3] == 0
    assert pair[0] > 0


def test_codes_come_in_by_any_bridge():
    for name in ("codes-memory", "codes-lstm", "codes-llama"):
        found = attribute(system(name), TEXTS)
        gap = found.log_likelihood[:, 0] - found.log_likelihood[:, 1]
        assert gap.abs().min() > 1e-4  # every text hears which code it is under


def test_a_code_that_is_not_known_is_named(model):
    with pytest.raises(IsthmusError, match="got 'upp', which this model does not know; did you"):
        model.decode(NOTHING, Generation(label="upp"))
    assert LABELS.count(None) == 2
    with pytest.raises(IsthmusError, match="does not know"):
        model.codec.prepare(TEXTS, ["upp"] * 6)


def test_a_plain_model_has_no_codes():
    with pytest.raises(IsthmusError, match="has none"):
        attribute(make("gpt2", kind="language-model"), TEXTS)


def test_samples_are_guided_away_from_the_null_code_all_of_them():
    """Asked for a code, a sample has no own one to move away from."""
    for name, shape in (("codes", (5, 0)), ("labels-both", (5, 3))):
        model = system(name)
        asked = Generation(max_new_tokens=6, label="up", guidance=4.0)
        z = model.prior.sample(5, torch.Generator().manual_seed(3))
        assert z.shape == shape
        assert sample(model, 5, 3, asked) == model.decode(z, asked)
        plain = dataclasses.replace(asked, guidance=1.0)
        assert model.decode(z, asked) != model.decode(z, plain)


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_penalty_reads_raw_logits_under_guidance_too(model, guidance):
    """Greedy text by hand: guide raw logits, then the processor of transformers, then argmax."""
    penalty = RepetitionPenaltyLogitsProcessor(1.7)
    embed = model.decoder.stack.get_input_embeddings()
    codes = [model.bridge.linear.weight[:, place].view(1, 1, -1) for place in (2, 0)]  # up, null
    ids: list[int] = model.codec.ids("b")
    for _ in range(7):
        words = embed(torch.tensor([ids]))
        told, null = (
            model.decoder.model(inputs_embeds=torch.cat([code, words], dim=1)).logits[:, -1]
            for code in codes
        )
        ids.append(int(penalty(torch.tensor([ids]), null + guidance * (told - null)).argmax()))
        if ids[-1] == model.config.decoder_end:
            break
    asked = Generation(
        max_new_tokens=7, label="up", prompt="b", guidance=guidance, penalty=Penalty(1.7)
    )
    [text] = model.decode(NOTHING, asked)
    assert model.codec.ids(text) == [i for i in ids if i not in HIDDEN]


def test_texts_without_a_code_have_no_rivals():
    made = settings("gpt2", "start", kind="language-model", labels="given")
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, rivals=1))
    model = loud(build(made, TEXTS, ["x", "y", "x", None, "y", "x"]))
    batch = model.codec.prepare(TEXTS, [None] * 6).collate(range(6), noise_shape=(0,))
    assert model(**batch).extra["classification"].tolist() == [0] * 6


def test_labels_that_the_model_does_not_have_are_counted_and_left_out(model):
    examples = model.codec.prepare(TEXTS)
    each = log_likelihoods(model, examples)
    found = code_metrics(model, examples, each, ["up", "", "down", "left", "up", "up"], 0)
    assert found["labels_unknown"] == 2
    assert sum(each["sentences"] for each in found["per_label"].values()) == 4
    assert code_metrics(model, examples, each, ["left"] * 6, 0).keys() == {
        "null_nll", "null_nll_se", "labels_unknown"
    }  # fmt: skip


def test_a_long_detail_has_positions():
    made = settings("gpt2", "start", kind="language-model", labels="given")
    made = dataclasses.replace(made, data=dataclasses.replace(made.data, code_separator=":"))
    labels = [f"up:{'a b c ' * 9}", "down", "up", "down", "up", "down"]
    model = loud(build(made, TEXTS, labels))
    examples = model.codec.prepare(["a b c " * 9] * 6, labels)
    batch = examples.collate(range(6), noise_shape=(0,))
    assert batch["targets"].shape[1] == 11 + 7  # half of 12 tokens of detail, and a start token
    assert model(**batch).reconstruction.isfinite().all()


def test_pieces_of_a_character_come_with_its_last_token():
    tokenizer = tokens.train_bpe(["a b"] * 3, 261)  # bytes alone
    codec = make_codec(tokenizer, tokenizer, 32)
    text = "a 日 é"
    pieces = _pieces(codec, [*codec.ids(text), codec.decoder_special.end])
    assert "".join(pieces) == text
    assert "日" in pieces
