#!/usr/bin/env bash
# transformers 5.23.0: from_pretrained leaves a custom model's non-persistent buffers uninitialised.
#
# A PreTrainedModel of one's own registers a constant as a buffer with persistent=False in __init__, as
# PyTorch recommends for what can be computed again. A new model has it. The model that from_pretrained
# returns has run the same __init__, but on the meta device, and the buffer gets memory without values:
# it holds whatever was there, without a warning, because no key of the file is missing. One would guess
# that what __init__ computes is there after loading.
#
# Remedy: compute the constant where it is used, save it (persistent=True), or fill it in _init_weights.
#
# Output seen:
#   new     [1, 2, 4, 8, ...] as __init__ made it: True
#   loaded  as __init__ made it: False
#   warnings: 0, missing keys: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0
"$folder/venv/bin/python" - "$folder/model" <<'PYTHON'
import logging
import sys

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as library

SIZE = 40
EXPECTED = 2 ** torch.arange(SIZE)


class Own(PreTrainedModel):
    config_class = PreTrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.linear = nn.Linear(2, 2)
        self.register_buffer("powers", 2 ** torch.arange(SIZE), persistent=False)
        self.post_init()


seen = []


class Count(logging.Handler):
    def emit(self, record):
        seen.append(record.getMessage())


library.get_logger("transformers").addHandler(Count(logging.WARNING))
new = Own(PreTrainedConfig())
new.save_pretrained(sys.argv[1])
junk = [torch.full((SIZE,), -7) for _ in range(1000)]  # memory that was used before
del junk
seen.clear()
loaded, info = Own.from_pretrained(sys.argv[1], output_loading_info=True)
same = [torch.equal(model.powers, EXPECTED) for model in (new, loaded)]
print("new     [1, 2, 4, 8, ...] as __init__ made it:", same[0])
print("loaded  as __init__ made it:", same[1])
print(f"warnings: {len(seen)}, missing keys: {len(info['missing_keys'])}")
sys.exit(0 if same == [True, False] and not seen and not info["missing_keys"] else 1)
PYTHON
