#!/usr/bin/env bash
# transformers 5.23.0: reading a GGUF file loses the linear scaling of rotary positions.
#
# A Llama whose context was stretched by linear scaling says so in its GGUF metadata
# (`llama.rope.scaling.type` = linear, `llama.rope.scaling.factor` = 4), and engines that are made for
# GGUF divide positions by the factor. transformers maps other rotary settings of the file, such as the
# base frequency, but not these two: two files that differ in the factor alone give the same
# configuration and the same logits. No error, no warning; the likelihood is that of another model.
#
# Remedy: read the two keys with the package gguf and set `rope_parameters` by hand.
#
# Output seen:
#   factor 1: {'rope_theta': 5000.0, 'rope_type': 'default'}
#   factor 4: {'rope_theta': 5000.0, 'rope_type': 'default'}
#   same logits: True; with factor 4 set by hand: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import gguf
import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM

FOLDER, WIDTH, HEADS = sys.argv[1], 16, 2
TOKENS = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]


def write(name: str, factor: float) -> None:
    file = gguf.GGUFWriter(f"{FOLDER}/{name}", "llama")
    file.add_context_length(256)
    file.add_embedding_length(WIDTH)
    file.add_block_count(1)
    file.add_feed_forward_length(WIDTH)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_rope_freq_base(5000.0)
    file.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    file.add_rope_scaling_factor(factor)
    file.add_vocab_size(len(TOKENS))
    file.add_tokenizer_model("gpt2")
    file.add_token_list(TOKENS)
    file.add_token_types([3, *[1] * (len(TOKENS) - 1)])
    file.add_token_merges(["a b"])
    file.add_bos_token_id(0)
    file.add_eos_token_id(0)
    shapes = {"token_embd": (len(TOKENS), WIDTH), "output": (len(TOKENS), WIDTH)}
    shapes |= dict.fromkeys(("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"), (WIDTH,))
    for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{part}"] = (WIDTH, WIDTH)
    random = np.random.default_rng(0)
    for tensor, shape in shapes.items():
        file.add_tensor(f"{tensor}.weight", random.standard_normal(shape).astype(np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(1, 33).unsqueeze(0)).logits


models = []
for factor in (1, 4):
    write(f"{factor}.gguf", float(factor))
    models.append(
        AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=f"{factor}.gguf", dtype=torch.float32)
    )
    print(f"factor {factor}: {models[-1].config.rope_parameters}")
config = type(models[1].config).from_dict(models[1].config.to_dict())
config.rope_parameters = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}
del config.quantization_config
right = AutoModelForCausalLM.from_config(config)
right.load_state_dict(models[1].state_dict())
same = torch.equal(logits(models[0]), logits(models[1]))
by_hand = torch.allclose(logits(models[1]), logits(right), atol=1e-3)
print(f"same logits: {same}; with factor 4 set by hand: {by_hand}")
sys.exit(not same or by_hand)
PYTHON
