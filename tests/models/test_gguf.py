"""GGUF files: known by their content, and refused where transformers would read another model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from isthmus.errors import IsthmusError
from isthmus.models.stock import pretrained

gguf = pytest.importorskip("gguf")

WIDTH, HEADS = 16, 2


def write(path: Path, seed: int = 0, kind: str = "llama", scaling: float = 1.0, tensor: str = ""):
    """One layer of random weights, and a tokenizer of bytes."""
    file = gguf.GGUFWriter(path, kind)
    file.add_name("tiny")
    file.add_context_length(64)
    file.add_embedding_length(WIDTH)
    file.add_block_count(1)
    file.add_feed_forward_length(WIDTH)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_rope_freq_base(10000.0)
    file.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    file.add_rope_scaling_factor(scaling)
    tokens = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_token_list(tokens)
    file.add_token_types([3, *[1] * (len(tokens) - 1)])
    file.add_token_merges(["a b"])
    file.add_bos_token_id(0)
    file.add_eos_token_id(0)
    shapes = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH)}
    shapes |= {"output_norm": (WIDTH,), "blk.0.attn_norm": (WIDTH,), "blk.0.ffn_norm": (WIDTH,)}
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes |= {f"blk.0.{part}": (WIDTH, WIDTH) for part in parts}
    shapes |= {tensor: (WIDTH // HEADS // 2,)} if tensor else {}
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        file.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "isthmus"


def test_another_file_of_the_same_name_and_size_is_another_model(tmp_path, cache, caplog):
    path = tmp_path / "model.gguf"
    sizes, models = [], []
    for seed in (0, 1, 0):
        write(path, seed)
        sizes.append(path.stat().st_size)
        with caplog.at_level(logging.WARNING, "isthmus"):
            models.append(pretrained(str(path), "decoder")[0])
    assert len(set(sizes)) == 1
    first, second, again = (model.lm_head.weight for model in models)
    weights = np.random.default_rng(0).standard_normal((258, WIDTH)).astype(np.float32)
    stored = models[0].get_input_embeddings().weight
    torch.testing.assert_close(stored, torch.from_numpy(weights), atol=0, rtol=2**-8)  # bf16
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    assert len(list(cache.iterdir())) == caplog.text.count("converting model.gguf once") == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"scaling": 4.0}, "loses the linear scaling of its rotary positions by 4"),
        ({"tensor": "rope_freqs"}, "loses the scaled frequencies of its rotary positions"),
        ({"kind": "t5"}, "loses the gated GELU of a T5"),
    ],
)
def test_what_transformers_would_lose_is_refused(tmp_path, change, line):
    write(tmp_path / "model.gguf", **change)
    with pytest.raises(IsthmusError, match=line) as caught:
        pretrained(str(tmp_path / "model.gguf"), "decoder")
    assert "\n" not in str(caught.value)
