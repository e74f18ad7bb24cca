#!/usr/bin/env bash
# transformers 5.23.0: an attention function of one's own that only calls transformers' own kernel changes the
# predictions of DeepSeek-V3.2, without an error.
#
# AttentionInterface.register is the documented way to put a function of one's own (a profiler, another kernel)
# in the place of "sdpa". In most models one that passes all its arguments on to sdpa_attention_forward changes
# nothing. DeepSeek-V3.2 adds the keys that its indexer leaves out to the attention mask only where the
# implementation is *named* "eager" or "sdpa"; under any other name it passes them on as another keyword and
# leaves the mask alone, so that every query sees every earlier key. One would guess that the name of a
# function that does the same cannot matter.
#
# Remedy: keep "sdpa" or "eager" for such models, or read the keyword `indices` in the function.
#
# Output seen (how far the logits of 20 tokens are from those of "sdpa"; the indexer keeps 4 keys):
#   llama: eager agrees True, registered agrees True
#   deepseek_v32: eager agrees True, registered agrees False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def passed_on(*arguments, **named):
    return sdpa_attention_forward(*arguments, **named)


AttentionInterface.register("passed-on", passed_on)
AttentionMaskInterface.register("passed-on", sdpa_mask)
sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
sizes |= {"num_attention_heads": 4, "num_key_value_heads": 4}
deepseek = {"moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1}
deepseek |= {"topk_group": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
deepseek |= {"qk_nope_head_dim": 8, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4}


@torch.no_grad()
def agreement(name: str, **options: int) -> tuple[bool, bool]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes, **options)).eval()
    logits = {}
    for kernel in ("sdpa", "eager", "passed-on"):
        model.set_attn_implementation(kernel)
        logits[kernel] = model(torch.arange(1, 21).unsqueeze(0)).logits
    found = [(logits[kernel] - logits["sdpa"]).abs().max() < 1e-4 for kernel in ("eager", "passed-on")]
    print(f"{name}: eager agrees {bool(found[0])}, registered agrees {bool(found[1])}")
    return bool(found[0]), bool(found[1])


seen = [agreement("llama"), agreement("deepseek_v32", **deepseek)]
sys.exit(seen != [(True, True), (True, False)])
PYTHON
