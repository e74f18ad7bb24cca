#!/usr/bin/env bash
# transformers 5.23.0: `tokenizer_class` in tokenizer_config.json decides what of tokenizer.json is read.
#
# A folder holds a valid tokenizer.json (byte-level BPE that lower-cases and splits off single digits)
# and a tokenizer_config.json that names a class. One would guess that the file, which describes the
# whole pipeline, is what encodes. With `GPT2Tokenizer`, `GPT2TokenizerFast` or `Qwen2Tokenizer` the
# class takes vocabulary and merges from the file and builds its own normalizer and pre-tokenizer:
# other ids for the same text, no error, no warning. With `LlamaTokenizerFast` the mismatch is noticed,
# logged, and the file is used; with `PreTrainedTokenizerFast` the file is used.
#
# A model trained on the file's ids then reads ids that it has never seen in these places.
# Remedy: compare AutoTokenizer's ids with tokenizers.Tokenizer.from_file on sample texts.
#
# Output seen:
#   PreTrainedTokenizerFast the file's ids
#   LlamaTokenizerFast the file's ids
#   GPT2Tokenizer other ids
#   GPT2TokenizerFast other ids
#   Qwen2Tokenizer other ids
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

TEXT = "The Year 2026"
EXPECTED = {
    "PreTrainedTokenizerFast": "the file's ids",
    "LlamaTokenizerFast": "the file's ids",
    "GPT2Tokenizer": "other ids",
    "GPT2TokenizerFast": "other ids",
    "Qwen2Tokenizer": "other ids",
}

pipeline = Tokenizer(models.BPE())
pipeline.normalizer = normalizers.Lowercase()
pipeline.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
pipeline.decoder = decoders.ByteLevel()
pipeline.train_from_iterator(
    ["the year 2026 was good"] * 50,
    trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    ),
)
seen = {}
for name in EXPECTED:
    place = Path(sys.argv[1]) / name
    place.mkdir()
    pipeline.save(str(place / "tokenizer.json"))
    config = {"tokenizer_class": name, "eos_token": "<|endoftext|>"}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    ids = AutoTokenizer.from_pretrained(place)(TEXT, add_special_tokens=False)["input_ids"]
    seen[name] = "the file's ids" if ids == pipeline.encode(TEXT).ids else "other ids"
    print(name, seen[name])
sys.exit(seen != EXPECTED)
PYTHON
