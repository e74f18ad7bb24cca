"""A pretrained model with quantised weights is refused before they are read."""

import json

import pytest

from isthmus.errors import IsthmusError
from isthmus.models.stock import pretrained
from tiny import make


def test_quantised_weights_are_refused_in_one_line(tmp_path):
    model = make("llama", "memory")
    model.decoder.model.save_pretrained(tmp_path)
    model.codec.decoder_tokenizer.save_pretrained(tmp_path)
    assert pretrained(str(tmp_path), "decoder")
    path = tmp_path / "config.json"
    method = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": method}))
    with pytest.raises(IsthmusError, match="quantised, which a run directory cannot hold; give"):
        pretrained(str(tmp_path), "decoder")
