"""How many logits to hold at a time on a CPU: a training step with a 10,000-word vocabulary.

python benchmarks/chunks.py      # about two minutes; results/chunks.json
"""

from __future__ import annotations

import time

from common import one_thread, settings_from, write
from contenders import random_texts
from isthmus.models import decoder
from isthmus.models.build import build

SIZES = (20, 21, 22, 23, 24, 25)
STEPS = 4
SHAPE = {
    "model": {"encoder": {"layers": 1}, "decoder": {"layers": 2}},
    "data": {"tokenizer": "word", "vocabulary_size": 10_000, "maximum_length": 33},
}


def main() -> None:
    one_thread()
    texts = random_texts(64, 31, 9995)
    model = build(settings_from(SHAPE), texts)
    batch = model.codec.prepare(texts[1:]).collate(range(64), noise_shape=model.latent_shape)
    decoder.FEWEST_ROWS = 1  # so that the size alone decides
    rows = []
    for size in SIZES:
        decoder.LOGITS_AT_ONCE = 2**size
        seconds = []
        for _ in range(STEPS):
            started = time.perf_counter()
            output = model(**batch)
            (output.reconstruction + output.kl.sum(1)).mean().backward()
            model.zero_grad()
            seconds.append(time.perf_counter() - started)
        rows.append({"logits_at_once": 2**size, "seconds": min(seconds[1:]), "all": seconds})
        print(rows[-1])
    write("chunks", {"tokens": 64 * 32, "vocabulary": 10_000, "rows": rows})


if __name__ == "__main__":
    main()
