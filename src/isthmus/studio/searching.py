"""The search of the open space by the objective that the command line named."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from isthmus.errors import IsthmusError
from isthmus.evaluation.metrics import finite
from isthmus.evaluation.searching import NAMES, TEN, Searched, best_so_far
from isthmus.explore.optimise import optimise
from isthmus.models.labels import label_set
from isthmus.studio import bodies
from isthmus.studio.code import Script, command
from isthmus.studio.space import Space

POINTS = 200
"""Of a line in the chart."""


class Search(bodies.Body):
    """How many texts each way asks about; the objective is not the browser's to choose."""

    calls: Annotated[int, Field(ge=10, le=2000)] = 300
    seed: bodies.Seed = 0
    label: bodies.Name = ""

    @property
    def passes(self) -> int:
        """About as many as the decoder takes, for progress."""
        return 4 * self.calls


def search(space: Space, body: Search) -> dict[str, Any]:
    """The way of the search beside random search and texts of the corpus, and the ten best texts.

    The objective keeps its values while the studio runs, and is asked about a text once.
    """
    space.check_space()
    if space.objective is None:
        raise IsthmusError("optimise: start the studio with --objective MODULE:FUNCTION")
    texts = [] if space.corpus is None else space.corpus.texts
    names = label_set(space.model).read_names
    label = body.label or (names[0] if names else "")
    calls = optimise(space.model, space.objective, body.calls, body.seed, texts, label)
    found = Searched([calls])
    best = found.best()
    z = torch.tensor([call.z for call in best])
    items = space.items(z, [call.text for call in best])
    for item, call in zip(items, best, strict=True):
        item["value"] = call.value
    curves = {
        title: [
            {"name": NAMES[way], "points": _points(best_so_far(made, count))}
            for way, made in calls.items()
        ]
        for count, title in ((1, "Best so far"), (TEN, "Mean of the ten best so far"))
    }
    answer = {"items": items, "curves": curves, **_code(space, body, label)}
    return dict(finite(answer))


def _points(curve: NDArray[np.float64]) -> list[list[float]]:
    """Some points of a curve, those without a value left out."""
    places = np.unique(np.linspace(0, len(curve) - 1, POINTS).round().astype(int))
    return [[place + 1, curve[place]] for place in places.tolist() if curve[place] == curve[place]]


def _code(space: Space, body: Search, label: str) -> dict[str, Any]:
    """Python and a command that make the same search."""
    script, data = Script(space), ""
    script.say(f"objective = imported({space.objective_name!r})")
    if space.corpus is not None:
        script.read_corpus()
        data = ", corpus.texts"
    under = f", label={label!r}" if label else ""
    how = f"calls={body.calls}, seed={body.seed}{under}"
    script.say(f"found = isthmus.optimise(model, objective{data}, {how})")
    script.say("print(*((call.value, call.text) for call in found.best()), sep='\\n')")
    flags = ["--objective", space.objective_name, "--calls", body.calls, "--seed", body.seed]
    flags += ["--label", label] * bool(label) + ["--out", "search"]
    flags += ["--data", space.whole_data] * bool(space.corpus is not None and space.whole_data)
    line = None if space.is_shipped else command(space, "optimise", [], flags)
    return {"python": script.text(), "command": line}
