"""Encoders of sentence-transformers: the vector is the one that the library returns."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from isthmus.errors import IsthmusError
from isthmus.evaluation.meaning import SentenceEncoder
from isthmus.models.build import build
from isthmus.runs import bundle
from isthmus.settings import EncoderSettings
from tiny import TEXTS, settings

SENTENCES = [
    "the dog runs",
    "dog",
    "The DOG runs in the park and the park runs in the dog",
    "query : in [SEP] the [MASK] park",
    "unheard words",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "the", "dog", "runs", "in", "park", "and", "query", ":", "The", "DOG"]
POOLINGS = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
OLD = "sentence_transformers.models."
NEW = "sentence_transformers.sentence_transformer.modules.pooling."
BASE = "sentence_transformers.base.modules.dense."
TANH = "torch.nn.modules.activation.Tanh"
PROMPTS = {"prompts": {"query": "query : ", "passage": "in the ", "none": ""}}


def waves(shape, phase: float) -> torch.Tensor:
    """Weights that no generator of random numbers can change."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.double) * 0.37 + phase).float().view(shape)


def stock(kind: str = "bert"):
    if kind == "t5":
        size = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_kv": 4, "d_ff": 16}
        model = T5EncoderModel(T5Config(vocab_size=len(WORDS), pad_token_id=0, **size))
    else:
        size = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        config = BertConfig(
            vocab_size=len(WORDS), hidden_size=8, max_position_embeddings=32, **size
        )
        model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for place, parameter in enumerate(model.parameters()):
            parameter.copy_(0.6 * waves(parameter.shape, place))
    return model


def tokenizer(kind: str = "bert") -> PreTrainedTokenizerFast:
    """Words in their case; a start and an end, or T5's end alone."""
    words = {word: place for place, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    single = "$A [SEP]" if kind == "t5" else "[CLS] $A [SEP]"
    backend.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    names |= {"eos_token": "[SEP]"} if kind == "t5" else {}
    names |= {} if kind == "t5" else {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


def write(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def folder(
    place,
    pooling=None,
    layers=(),
    *,
    kind: str = "bert",
    transformer=None,
    config=None,
    prefix: str = OLD,
    inside: str = "",
):
    """A folder as the library saves it: (class, settings, shapes of weights) for each layer."""
    stock(kind).save_pretrained(place / inside)
    tokenizer(kind).save_pretrained(place / inside)
    modules = [
        {"idx": 0, "name": "0", "path": inside, "type": f"{prefix}Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{prefix}Pooling"},
    ]
    write(place / "1_Pooling" / "config.json", pooling or {"pooling_mode": "mean"})
    if "word_embedding_dimension" not in (pooling or {}):
        own = json.loads((place / "1_Pooling" / "config.json").read_text())
        write(place / "1_Pooling" / "config.json", own | {"word_embedding_dimension": 8})
    for at, (name, own, shapes) in enumerate(layers, start=2):
        path = f"{at}_{name.split('.')[-1]}"
        modules.append({"idx": at, "name": str(at), "path": path, "type": name})
        write(place / path / "config.json", own)
        if shapes:
            weights = {key: waves(shape, at) for key, shape in shapes.items()}
            save_file(weights, place / path / "model.safetensors")
    write(place / "modules.json", modules)
    write(place / inside / "sentence_bert_config.json", transformer or {"max_seq_length": 24})
    write(place / "config_sentence_transformers.json", config or {"__version__": {}})
    return place


def dense(inputs: int, outputs: int, **more):
    shapes = {"linear.weight": (outputs, inputs), "linear.bias": (outputs,)}
    if more.get("use_residual") and inputs != outputs:
        shapes["residual.weight"] = (outputs, inputs)
    own = {"in_features": inputs, "out_features": outputs, "bias": True} | more
    return f"{OLD}Dense", {"activation_function": TANH} | own, shapes


NORMALIZE = (f"{OLD}Normalize", {}, {})
GELU = "torch.nn.modules.activation.GELU"
CASES = {
    **{mode: {"pooling": {"pooling_mode": mode}} for mode in POOLINGS},
    "old names, joined": {
        "pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
    },
    "joined in its order": {"pooling": {"pooling_mode": ["lasttoken", "mean", "max"]}},
    "dense and normalised": {
        "pooling": {"pooling_mode": ["cls", "mean"]},
        "layers": [dense(16, 5), (f"{OLD}Dropout", {"dropout": 0.5}, {}), NORMALIZE],
    },
    "residual, layer norm, cut": {
        "layers": [
            dense(8, 6, activation_function=GELU, use_residual=True),
            dense(6, 6, activation_function=GELU, use_residual=True),
            (f"{OLD}LayerNorm", {"dimension": 6}, {"norm.weight": (6,), "norm.bias": (6,)}),
        ],
        "config": {"truncate_dim": 4},
    },
    "default prompt": {"config": PROMPTS | {"default_prompt_name": "query"}},
    **{
        f"prompt not pooled: {mode}": {
            "pooling": {"pooling_mode": mode, "include_prompt": False},
            "config": PROMPTS | {"default_prompt_name": "query"},
        }
        for mode in POOLINGS
    },
    "longest text": {"transformer": {"max_seq_length": 6}},
    "lower case": {"transformer": {"max_seq_length": 24, "do_lower_case": True}},
    "no limit but the tokenizer's": {"transformer": {"do_lower_case": False}},
    "in a folder of its own": {"inside": "0_Transformer"},
    "T5, its encoder alone": {"kind": "t5", "layers": [NORMALIZE]},
}


def made(source, prompt: str = "", pooling: str = "own", tuning: str = "frozen"):
    recipe = settings("gpt2", "memory")
    encoder = EncoderSettings(source=str(source), prompt=prompt, pooling=pooling, tuning=tuning)
    model = dataclasses.replace(recipe.model, encoder=encoder)
    return build(dataclasses.replace(recipe, model=model), TEXTS).eval()


@pytest.mark.parametrize("case", CASES)
def test_the_vector_is_the_library_s(case, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    source = folder(tmp_path / "source", **CASES[case])
    theirs = library.SentenceTransformer(str(source), device="cpu", local_files_only=True)
    model = made(source)
    expected = theirs.encode(SENTENCES, convert_to_tensor=True)
    torch.testing.assert_close(model.pooled(SENTENCES), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prompt", ["query", "passage", "none", "query : dog "])
def test_a_prompt_by_name_and_as_a_text(prompt, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    source = folder(tmp_path, config=PROMPTS | {"default_prompt_name": "passage"})
    theirs = library.SentenceTransformer(str(source), device="cpu", local_files_only=True)
    how = {"prompt_name": prompt} if prompt in PROMPTS["prompts"] else {"prompt": prompt}
    expected = theirs.encode(SENTENCES, convert_to_tensor=True, **how)
    torch.testing.assert_close(made(source, prompt).pooled(SENTENCES), expected, atol=1e-5, rtol=0)


# Of sentence-transformers 6.2.0, the first two SENTENCES.
GOLDEN = {
    "dense and normalised": [
        [0.65791, 0.57327, 0.37999, 0.05069, -0.30258],
        [0.65870, 0.57297, 0.37832, 0.04864, -0.30386],
    ],
    "residual, layer norm, cut": [
        [-0.27270, -1.61353, -0.65500, -1.79555],
        [-0.29174, -1.60229, -0.66620, -1.79118],
    ],
    "prompt not pooled: weightedmean": [
        [-0.12943, -0.18056, -0.01894, -0.69214, -0.29032, -0.48248, 0.05336, 0.43092],
        [-0.13277, -0.16654, -0.02485, -0.65996, -0.30349, -0.48148, 0.04903, 0.42926],
    ],
}


@pytest.mark.parametrize("case", GOLDEN)
def test_the_vector_is_the_recorded_one(case, tmp_path):
    found = made(folder(tmp_path, **CASES[case])).pooled(SENTENCES[:2])
    torch.testing.assert_close(found, torch.tensor(GOLDEN[case]), atol=2e-5, rtol=0)


def test_the_latent_sits_on_the_vector_and_a_loaded_run_does_the_same(tmp_path):
    case = CASES["dense and normalised"] | {"config": PROMPTS | {"default_prompt_name": "query"}}
    case |= {"transformer": {"max_seq_length": 9, "do_lower_case": True}}
    model = made(folder(tmp_path / "source", **case))
    vector = model.pooled(SENTENCES)
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(len(SENTENCES)))
    mean = model.encode(SENTENCES).mean
    torch.testing.assert_close(mean, vector @ model.encoder.head.weight[:3].T)
    bundle.save(model, tmp_path / "run", {"seed": 0})
    shutil.rmtree(tmp_path / "source")
    loaded = bundle.load(tmp_path / "run")
    assert torch.equal(loaded.pooled(SENTENCES), vector)
    assert torch.equal(loaded.encode(SENTENCES).mean, mean)


def test_encoding_is_batched_by_what_the_encoder_reads(tmp_path):
    model = made(folder(tmp_path, transformer={"max_seq_length": 6}))
    examples = model.codec.prepare(SENTENCES)
    encoder, decoder = examples.encoder_tokens.lengths, examples.decoder_tokens.lengths
    assert (decoder > encoder).any()
    assert examples.to_encode().lengths.tolist() == encoder.tolist()
    assert examples.lengths.tolist() == np.maximum(encoder, decoder).tolist()


def test_only_a_full_tuning_trains_the_layers(tmp_path):
    source = folder(tmp_path, **CASES["dense and normalised"])
    for tuning, trained in (("full", True), ("lora", False), ("frozen", False)):
        layers = made(source, tuning=tuning).encoder.sentence
        assert {weight.requires_grad for weight in layers.parameters()} == {trained}


def test_the_judge_of_meaning_reads_as_the_folder_says(tmp_path):
    case = CASES["dense and normalised"] | {"config": PROMPTS | {"default_prompt_name": "query"}}
    source = folder(tmp_path, **case)
    found = SentenceEncoder(str(source)).embed(SENTENCES)
    torch.testing.assert_close(found, made(source).pooled(SENTENCES), atol=1e-5, rtol=0)


def test_another_pooling_leaves_the_modules_out(tmp_path):
    source = folder(tmp_path, {"pooling_mode": "cls"}, [NORMALIZE], config=PROMPTS)
    model = made(source, pooling="mean")
    batch = model.codec.prepare(SENTENCES[:1]).collate([0])
    states = model.encoder.model(batch["input_ids"]).last_hidden_state
    torch.testing.assert_close(model.pooled(SENTENCES[:1]), states.mean(1))


def test_a_folder_without_modules_keeps_the_pooler(tmp_path):
    model = BertModel(stock().config)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    assert made(tmp_path).config.pooling == "pooler"


REFUSED = {
    "of the repository": (
        {"layers": [("custom_module.Head", {}, {})]},
        r"got the module custom_module\.Head, expected one of Transformer, Pooling, Dense",
    ),
    "of the library": (
        {"layers": [(f"{OLD}WeightedLayerPooling", {}, {})]},
        r"got the module sentence_transformers\.models\.WeightedLayerPooling, expected",
    ),
    "pooled twice": ({"layers": [(f"{NEW}Pooling", {}, {})]}, "Transformer, Pooling, Pooling"),
    "a pooling": ({"pooling": {"pooling_mode": "median"}}, "got the pooling median, expected"),
    "a setting": (
        {"transformer": {"query_expansion": {"length": 32}}},
        "got a transformer with query_expansion",
    ),
    "a task": ({"transformer": {"transformer_task": "text-generation"}}, "got transformer_task"),
    "an activation": ({"layers": [dense(8, 4, activation_function="os.system")]}, r"os\.system"),
    "tokens": (
        {"layers": [dense(8, 4, module_input_name="token_embeddings")]},
        "token_embeddings",
    ),
    "a width": ({"layers": [dense(7, 4)]}, "reads 7 features, and the one before gives 8"),
    "no weights": (
        {"layers": [(f"{BASE}Dense", {"in_features": 8, "out_features": 2}, {})]},
        r"2_Dense has no model\.safetensors \(a pickle such as pytorch_model\.bin is never read",
    ),
    "another kind": ({"config": {"model_type": "SparseEncoder"}}, "type SparseEncoder"),
    "no default": ({"config": PROMPTS | {"default_prompt_name": "qury"}}, "qury"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_known_is_refused_in_one_line(case, tmp_path):
    changes, line = REFUSED[case]
    with pytest.raises(IsthmusError, match=line) as caught:
        made(folder(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_prompts_that_are_wrong(tmp_path):
    source = folder(tmp_path / "named", config=PROMPTS)
    with pytest.raises(IsthmusError, match="got 'qury', expected one of query, passage, none"):
        made(source, prompt="qury")
    with pytest.raises(IsthmusError, match="only a sentence-transformers source"):
        made(source, prompt="query", pooling="mean")


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json"])
def test_damaged_files_are_named_in_one_line(name, tmp_path):
    source = folder(tmp_path)
    (source / name).write_text("{")
    with pytest.raises(IsthmusError, match="restore"):
        made(source)


def test_a_module_cannot_lie_outside_the_folder(tmp_path):
    source = folder(tmp_path / "source")
    modules = json.loads((source / "modules.json").read_text())
    modules[1]["path"] = "../elsewhere"
    write(source / "modules.json", modules)
    with pytest.raises(IsthmusError, match="leads out of the folder"):
        made(source)
