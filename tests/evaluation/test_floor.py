"""What no model can beat: a bound below it is refused, a lucky one is not."""

from contextlib import nullcontext

import pytest

from isthmus.data.corpus import read
from isthmus.data.kind import Floor
from isthmus.errors import IsthmusError
from isthmus.evaluation.floor import check_floor
from isthmus.evaluation.metrics import evaluate
from isthmus.evaluation.usage import Estimate
from tiny import make
from word_model import WordModel

TEXTS = ["a b c", "c", "b b a c a b c a", "a a"]


@pytest.mark.parametrize(
    ("nats", "error", "count", "refused"),
    [
        (9.0, 0.2, 100, True),
        (9.5, 0.2, 100, False),  # two and a half errors
        (9.0, 0.01, 4, False),  # four texts alike: their own error says nothing, the exact is 1
        (6.9, 0.01, 4, True),
        (5.0, None, 1, False),
        (3.0, None, 1, True),
        (12.0, 0.1, 100, False),
    ],
)
def test_three_errors_below_the_entropy_are_no_chance(nats, error, count, refused):
    floor, whole = Floor("x", 10.0, 2.0), WordModel(TEXTS).codec.prepare(TEXTS)
    words = f"here: {nats:.2f} nats is"
    with pytest.raises(IsthmusError, match=words) if refused else nullcontext():
        check_floor(floor, whole, Estimate(nats, error, count), "here")


@pytest.mark.parametrize("text", ["a b c a b c a b c a b c", "a d"])
def test_nothing_is_said_where_the_text_is_cut_or_unknown(text):
    model, impossible = make("gpt2"), Floor("x", 1e6, 1.0)
    with pytest.raises(IsthmusError, match="which no model can beat"):
        evaluate(model, model.codec.prepare(["a b c"]), samples=1, texts=0, floor=impossible)
    evaluate(model, model.codec.prepare([text]), samples=1, texts=0, floor=impossible)


def test_scenes_have_a_floor_and_files_have_none(tmp_path):
    assert read("scenes", limit=3).floor.nats == pytest.approx(15.92, abs=0.005)
    (tmp_path / "scenes.txt").write_text("a cat\n")
    assert read(str(tmp_path / "scenes.txt")).floor is None
