#!/usr/bin/env bash
# transformers 5.23.0: soft tokens that share a position with the text's first token are cut off, unless a
# mask of ones is given.
#
# Without an attention mask and a cache, the mask functions look at position_ids: where they do not rise by
# one, a new text is taken to begin, as if several texts were packed into a row. Two soft tokens before a text
# whose own positions start at 0 (so that the text keeps the positions it was trained with) have the
# positions 0 0 0 1 2, and the text then sees neither of them. One would guess that position_ids only choose
# position embeddings, and that a mask of ones equals no mask.
#
# Remedy: give attention_mask=torch.ones(...) beside such position_ids.
#
# Output seen (how far the text's states move when the first soft token changes):
#   without a mask 0.0000
#   with a mask of ones: moves True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import GPT2Config, GPT2Model

torch.manual_seed(0)
sizes = {"vocab_size": 20, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
model = GPT2Model(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)).eval()
embedded = torch.randn(1, 5, 16)  # two soft tokens, three of a text
other = embedded.clone()
other[:, 0] = torch.randn(16)
positions = torch.tensor([[0, 0, 0, 1, 2]])


@torch.no_grad()
def moved(**mask: torch.Tensor) -> float:
    states = [
        model(inputs_embeds=e, position_ids=positions, use_cache=False, **mask).last_hidden_state
        for e in (embedded, other)
    ]
    return (states[0] - states[1])[:, 2:].abs().max().item()


without, with_ones = moved(), moved(attention_mask=torch.ones(1, 5))
print(f"without a mask {without:.4f}")
print(f"with a mask of ones: moves {with_ones > 1e-4}")
sys.exit(not (without == 0.0 and with_ones > 1e-4))
PYTHON
