"""What part of the validation tokens no training text has: said, advised on, and kept."""

import json
from io import StringIO

import pytest
from rich.console import Console

from isthmus.data.corpus import TextCorpus
from isthmus.data.kind import Splits
from isthmus.data.unseen import Unseen
from isthmus.settings import load_recipe, with_changes
from isthmus.training.run import train
from isthmus.training.unseen import unseen_line

TRAIN = [f"{a} {b} sat" for a in ("a", "the", "one") for b in ("cat", "dog", "hen")]


def test_the_share_is_said_with_advice_and_kept_in_the_record(tmp_path, settings_of):
    valid = ["the cow sat", "one yak sat"]
    parts = [TextCorpus(texts, None, "x") for texts in (TRAIN, valid)]
    out = StringIO()
    settings = settings_of(train={"steps": 1})
    splits = Splits(*parts, None, {})
    train(settings, splits, tmp_path / "run", resume=False, console=Console(file=out, width=400))
    line = "33.3% of the tokens (25.0% of the different ones) occur in no training text: "
    assert f"validation: {line}" in out.getvalue()
    assert "--data.tokenizer bpe" in out.getvalue()
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert data["unseen_tokens"] == pytest.approx(1 / 3)
    assert data["unseen_token_types"] == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("changes", "share", "advice"),
    [
        ({}, 0.2, "a smaller --data.vocabulary-size"),
        ({"data": {"tokenizer": "word"}}, 0.2, "--data.tokenizer bpe"),
        ({}, 0.05, ""),
        ({"model": {"decoder": {"source": "x"}}}, 0.2, ""),
        ({"train": {"start_from": "x"}}, 0.2, ""),
    ],
)
def test_advice_is_given_where_another_tokenizer_would_help(changes, share, advice):
    settings = with_changes(load_recipe("optimus"), changes, "test")
    line = unseen_line(Unseen(share, share), settings)
    assert line.endswith(advice or "training text")
