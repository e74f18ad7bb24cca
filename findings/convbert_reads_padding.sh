#!/usr/bin/env bash
# transformers 5.23.0: ConvBERT's states of a text depend on the padding of its batch.
#
# One would guess that `attention_mask` hides padding, as in BERT. It hides it from self-attention; the
# span-based convolution beside the attention runs over all positions, so the last tokens of a text mix
# with the embeddings of the padding. The same text has other states alone and in a batch with a longer
# one, in evaluation mode: embeddings and probabilities depend on the company a text keeps.
#
# Remedy: batches of equal length, or compare a padded with an unpadded text before trusting a model.
#
# Output seen (largest difference of the states of four tokens, without and with two pads):
#   bert 0.00
#   convbert 0.01
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import AutoConfig, AutoModel

IDS = torch.tensor([[5, 6, 7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 0, 0]])


@torch.no_grad()
def difference(architecture: str) -> float:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        hidden_size=64,
        embedding_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model = AutoModel.from_config(config).eval()
    alone = model(input_ids=IDS[:, :4], attention_mask=MASK[:, :4]).last_hidden_state
    padded = model(input_ids=IDS, attention_mask=MASK).last_hidden_state[:, :4]
    return (alone - padded).abs().max().item()


seen = {name: difference(name) for name in ("bert", "convbert")}
for name, value in seen.items():
    print(f"{name} {value:.2f}")
sys.exit(not (seen["bert"] < 1e-5 < 1e-3 < seen["convbert"]))
PYTHON
