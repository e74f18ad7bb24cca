"""Progress in a notebook, in a real kernel."""

from __future__ import annotations

import pytest

CELL = """
import time
from isthmus.progress import console, counting
with counting(console(), "en<code>", 4) as done:
    for _ in range(4):
        time.sleep(0.3)
        done(1)
"""


def test_a_bar_shows_how_far_it_is_and_is_gone_at_the_end():
    nbclient = pytest.importorskip("nbclient", reason="no notebooks: make docs installs them")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    seen = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, index):
            if message["msg_type"] == "update_display_data":
                seen.append(message["content"]["data"]["text/html"])
            return super().process_message(message, cell, index)

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    Client(book, timeout=60).execute()
    assert 'value="3" max="4"' in "".join(seen)
    assert "en&lt;code&gt; · 3 of 4" in "".join(seen)
    assert seen[-1] == ""
    [output] = book.cells[0].outputs
    assert output["data"] == {"text/html": ""}
