#!/usr/bin/env bash
# transformers 5.23.0: a model's forward pass accepts any keyword and drops those it does not know.
#
# One would guess a TypeError. OpenAI-GPT has no key/value cache: given `past_key_values`, it leaves the
# cache empty and reads each new token as if it were the first. Code that decodes step by step through
# a cache, and works with GPT-2 and Llama, then gets the likelihood of whole texts right and writes
# garbage, without an error or a warning. A misspelt `attention_mask` is dropped in the same way, by
# all three: padding is then attended to.
#
# Remedy: after the first step check that the cache has grown, or compare cached with uncached logits.
#
# Output seen:
#   gpt2 cache of 6 tokens, same logits; misspelt mask accepted
#   llama cache of 6 tokens, same logits; misspelt mask accepted
#   openai-gpt cache of 0 tokens, other logits; misspelt mask accepted
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

EXPECTED = {
    "gpt2": "cache of 6 tokens, same logits; misspelt mask accepted",
    "llama": "cache of 6 tokens, same logits; misspelt mask accepted",
    "openai-gpt": "cache of 0 tokens, other logits; misspelt mask accepted",
}


@torch.no_grad()
def behaviour(architecture: str) -> str:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[3, 4, 5, 6, 7, 8]])
    whole = model(input_ids=ids).logits[:, -1]
    cache = DynamicCache(config=config)
    model(input_ids=ids[:, :5], past_key_values=cache, use_cache=True)
    step = model(input_ids=ids[:, 5:], past_key_values=cache, use_cache=True).logits[:, -1]
    same = "same" if torch.allclose(whole, step, atol=1e-5) else "other"
    try:
        model(input_ids=ids, attention_msk=torch.zeros(1, 6))
        misspelt = "accepted"
    except TypeError:
        misspelt = "refused"
    return f"cache of {cache.get_seq_length()} tokens, {same} logits; misspelt mask {misspelt}"


seen = {architecture: behaviour(architecture) for architecture in EXPECTED}
for architecture, line in seen.items():
    print(architecture, line)
sys.exit(seen != EXPECTED)
PYTHON
