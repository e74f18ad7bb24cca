"""Bodies of the studio's requests, right, nearly right and wrong; for fuzz.py."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from pydantic import BaseModel

from isthmus.studio.server import CALLS
from isthmus.studio.space import Space

LEAVES: list[Any] = [
    *(0, 1, 2, -1, 3.5, 1e300, -1e-300, 2**70, True, None, "", "a", "a b c", "\x00", "\ud800"),
    *(
        "x" * 300,
        [],
        {},
        [1],
        {"index": 0},
        {"index": 10**9},
        "pca",
        "up",
        "data:image/png;base64,",
    ),
    *([0.1, 0.2, 0.3], [[0.1, 0.2, 0.3]], [[]], "slerp", "prior", ["a b", "c"]),
]


def picture(draw: random.Random) -> str:
    """A picture as a data URL, sometimes a damaged one."""
    file = BytesIO()
    noise = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    content = bytearray(file.getvalue())
    if draw.random() < 0.5:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return "data:image/png;base64," + base64.b64encode(content).decode()


def value(draw: random.Random, name: str, kind: Any) -> Any:
    """A value for a field: mostly of its kind."""
    if draw.random() < 0.03:
        return draw.choice(LEAVES)
    word = " ".join(draw.choices("abc", k=draw.randint(1, 5)))
    known: dict[str, Any] = {
        "inputs": [word, {"index": draw.randint(0, 5)}][: draw.randint(1, 2)],
        "terms": [{"input": word, "weight": draw.choice((1, -1.0))} for _ in range(2)],
        "z": [draw.uniform(-2, 2) for _ in range(3)],
        "offsets": {str(draw.randint(0, 3)): draw.uniform(-3, 3)},
        "mixture": {"up": draw.random() + 0.1, "down": 1.0},
        "place": [draw.uniform(-2, 2), draw.uniform(-2, 2)],
        "max_new_tokens": draw.randint(1, 5), "picture": picture(draw), "code": "up",
        "decoding": body(draw, kind) if hasattr(kind, "model_fields") else {},
    }  # fmt: skip
    if name == "z" and kind is not None and "list[list" in str(kind).replace("typing.", ""):
        return [known["z"]] * draw.randint(1, 2)
    if name in known:
        return known[name]
    if kind is int:
        return draw.randint(0, 6)
    if kind is float:
        return draw.choice((0.5, 1.0, 2.0))
    if kind is bool:
        return draw.random() < 0.5
    choices = [one for one in get_args(kind) if isinstance(one, str)]
    return draw.choice(choices) if choices else word


def body(draw: random.Random, kind: type[BaseModel]) -> dict[str, Any]:
    """A body of some type; a field that could be left out sometimes is."""
    made = {
        name: value(draw, name, field.annotation)
        for name, field in kind.model_fields.items()
        if field.is_required() or draw.random() < 0.5
    }
    if "max_new_tokens" in kind.model_fields:
        made.setdefault("max_new_tokens", 3)
    if "decoding" in kind.model_fields and not isinstance(made.get("decoding"), dict):
        made["decoding"] = {"max_new_tokens": 2}
    if draw.random() < 0.05:
        made[draw.choice(("unknown", "seed", "label", ""))] = draw.choice(LEAVES)
    return made


class Bodies:
    """Spaces of several runs, and the calls that they answer."""

    def __init__(self, runs: Mapping[str, Path]) -> None:
        data = next(iter(runs.values())).parent / "corpus.tsv"
        lines = [
            f"{'up' if n % 3 else 'down'}\t{'abc'[n % 3]} {'cab'[n % 2]} b\n" for n in range(30)
        ]
        data.write_text("".join(lines), encoding="utf-8")
        self.spaces = {name: Space(str(run), str(data)) for name, run in runs.items()}

    def answer(self, draw: random.Random) -> None:
        """Parse a body as the server does, answer it, and write the answer as strict JSON."""
        space = self.spaces[draw.choice(list(self.spaces))]
        kind, call = CALLS[draw.choice(list(CALLS))]
        content = json.dumps(body(draw, kind))
        if draw.random() < 0.1:
            at = draw.randrange(len(content))
            content = content[:at] + draw.choice(("", "\x00", "NaN", "}", "[")) + content[at + 1 :]
        parsed = kind.model_validate_json(content)
        json.dumps(call(space, parsed), allow_nan=False)
