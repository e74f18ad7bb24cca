"""The studio's answers: functions of an open run and a request, each with code to reproduce it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.explore import (
    between,
    drawing,
    exchanges,
    labels_between,
    likely_labels,
    losses_under,
    search,
    sentences,
    walk_sentences,
    waypoints,
    without_details,
)
from isthmus.models.base import summary_of
from isthmus.models.text_model import sample_labels
from isthmus.studio import bodies, limits
from isthmus.studio.code import Given, Script, command, piped, words
from isthmus.studio.examples import has_both, shown
from isthmus.studio.limits import is_address
from isthmus.studio.space import Space

Answer = dict[str, Any]


def decode(space: Space, body: bodies.Decode) -> Answer:
    """Decode latents, or a place on the map."""
    if (body.z is None) == (body.place is None):
        raise IsthmusError("decode: expected exactly one of z and place")
    generation, how = body.decoding.generation, "the latents that were given"
    if body.z is not None:
        z = space.check_latents(body.z)
    else:
        assert body.place is not None
        found, how = space.known_map().place(body.place[0], body.place[1], body.projection)
        z = space.model.as_latents(found.unsqueeze(0))
    script = Script(space)
    script.say(f"z = torch.tensor({z.tolist()!r})")
    script.decode("z", generation)
    line = None
    if len(z) == 1:
        pipe = command(space, "decode", ["-"], [], generation)
        line = pipe and f"echo '{{\"z\": {z[0].tolist()}}}' | {pipe}"
    return {
        "items": space.decoded(z, generation),
        "how": how,
        "python": script.text(),
        "command": line,
    }


def tsne(space: Space) -> Answer:
    """Start t-SNE; GET /api/map says when its map is ready."""
    space.known_map().start_tsne()
    script = Script(space)
    script.read_corpus()
    script.say("# t-SNE amplifies rounding errors: expect the same groups, not the same places.")
    script.say(f"print(tsne(model.encode(corpus.examples).mean{script.about}).tolist())")
    state = space.known_map().status()["projections"]["tsne"]
    return {**state, "python": script.text(), "command": None}


def encode(space: Space, body: bodies.Encode) -> Answer:
    """Encode inputs and decode their latents."""
    space.check_space()
    examples = [space.example(given) for given in body.inputs]
    generation = body.decoding.generation
    posterior = space.model.encode(examples)
    own = likely_labels(space.model, examples)
    items = space.decoded(posterior.mean, generation, own)
    noise = torch.randn(1, *posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    there = posterior.to(space.model.device)
    kl = there.kl(space.model.prior, there.rsample(noise=noise)).flatten(1).sum(1)
    losses = losses_under(space.model, examples, posterior.mean)
    rows = zip(items, examples, kl.tolist(), losses.tolist(), strict=True)
    for item, example, divergence, loss in rows:
        item |= {"input": shown(example), "kl": divergence, "input_nats": loss}
    places = {}
    if space.map is not None and space.map.ready:
        about = summary_of(space.model, posterior.mean)
        places["pca"] = space.map.plane().places(about).tolist()
    script = Script(space)
    script.say(f"inputs = {script.inputs(body.inputs)}", "posterior = model.encode(inputs)")
    script.decode("posterior.mean", generation, "likely_labels(model, inputs)" if own else "")
    script.say("print(losses_under(model, inputs, posterior.mean).tolist())")
    return {
        "items": items,
        "places": places,
        "python": script.text(),
        "command": piped(space, "reconstruct", body.inputs, [], generation),
    }


def caption(space: Space, body: bodies.Caption) -> Answer:
    """Describe a picture in words: encode the picture, decode the caption."""
    _check_both(space)
    if not is_address(body.picture):
        raise IsthmusError("picture: expected data:image/png;base64,…")
    given: list[Given] = [body.picture]
    answer = encode(space, bodies.Encode(inputs=given, decoding=body.decoding))
    line = command(space, "caption", words(space, given), [], body.decoding.generation)
    return {**answer, "command": line}


def draw(space: Space, body: bodies.Draw) -> Answer:
    """Draw what a text says: encode the caption, decode the picture."""
    _check_both(space)
    given: list[Given] = [limits.check_text(body.text)]
    answer = encode(space, bodies.Encode(inputs=given, decoding=body.decoding))
    script = Script(space)
    script.say(
        f"z = model.encode({script.inputs(given)}).mean",
        'decoded = model.decode(z, isthmus.Generation(part="picture"))',
        'write_grid([decoded], Path("pictures.png"))',
    )
    line = command(space, "draw", words(space, given), ["--out", "pictures.png"])
    return {**answer, "python": script.text(), "command": line}


def _check_both(space: Space) -> None:
    if not has_both(space.model):
        raise IsthmusError("this run has no pictures with captions; open one that has")


def walk(space: Space, body: bodies.Walk) -> Answer:
    """From one input to another: all points on the way, or the one at a position."""
    space.check_space()
    if body.path == "sentences":
        return _walk_by_sentences(space, body)
    generation, ends = body.decoding.generation, [body.a, body.b]
    examples = [space.example(end) for end in ends]
    mean, own = space.model.encode(examples).mean, likely_labels(space.model, examples)
    script, line, summary = Script(space), None, space.model.config.summary
    if body.position is None:
        z = waypoints(space.model, mean[0], mean[1], body.steps, body.path, own)
        positions = [i / (len(z) - 1) for i in range(len(z))]
        how = f"{body.steps}, {body.path!r}{script.decoding(generation)}"
        script.say(f"start, end = {script.inputs(ends)}")
        script.say(f"decoded = isthmus.interpolate(model, start, end, {how})")
        script.show("decoded")
        flags = ["--steps", body.steps, "--path", body.path]
        line = command(space, "interpolate", words(space, ends), flags, generation)
    else:
        positions = [body.position]
        places = torch.tensor(positions, dtype=torch.double)
        z = between(mean[0], mean[1], places, body.path, summary)
        how = f"{body.path!r}, summary={summary}" if summary else repr(body.path)
        script.say(
            f"ends = {script.inputs(ends)}",
            "mean = model.encode(ends).mean",
            f"places = torch.tensor({positions!r}, dtype=torch.double)",
            f"z = between(mean[0], mean[1], places, {how})",
        )
        labels = f"labels_between(likely_labels(model, ends), {positions!r})" if own else ""
        script.decode("z", generation, labels)
    items = space.decoded(z, generation, labels_between(own, positions))
    for item, position in zip(items, positions, strict=True):
        item["position"] = position
    return {"items": items, "python": script.text(), "command": line}


def _walk_by_sentences(space: Space, body: bodies.Walk) -> Answer:
    """From one document to another, each with one more sentence of the second."""
    if (model := space.documents) is None:
        raise IsthmusError(
            "path: this run has no texts to walk in by sentences; take another path"
        )
    if body.position is not None:
        raise IsthmusError("position: a walk by sentences has no points between; leave it out")
    generation, ends = body.decoding.generation, [body.a, body.b]
    start, end = (space.example(given) for given in ends)
    if (most := max(len(sentences(text)) for text in (start, end))) > limits.STEPS:
        raise IsthmusError(f"got {most:,} sentences, expected at most {limits.STEPS}")
    made = walk_sentences(model, start, end, generation)
    items = space.items(model.encode(made).mean, made)
    for place, item in enumerate(items):
        item["position"] = place / (len(items) - 1)
    script = Script(space)
    script.say(
        f"start, end = {script.inputs(ends)}",
        f"decoded = walk_sentences(model, start, end{script.decoding(generation)})",
    )
    script.show("decoded")
    line = command(space, "interpolate", words(space, ends), ["--sentences"], generation)
    return {"items": items, "python": script.text(), "command": line}


def exchange(space: Space, body: bodies.Exchange) -> Answer:
    """The first input, that input with each latent of the second in turn, and the second.

    ``latents`` of an item are the places of those of the second.
    """
    space.check_space()
    generation, ends = body.decoding.generation, [body.a, body.b]
    a, b = (space.example(end) for end in ends)
    mean = space.model.encode([a, b]).mean
    places, z = exchanges(mean[0], mean[1], space.model.config.summary)
    losses = losses_under(space.model, [a] * len(z), z)
    items = space.decoded(z, generation, likely_labels(space.model, [a]) * len(z))
    rises = (losses - losses[0]).tolist()
    for item, rise, latents in zip(items, rises, places, strict=True):
        item |= {"rise": rise, "latents": latents}
    script = Script(space)
    script.say(f"a, b = {script.inputs(ends)}")
    script.say(f"rows = isthmus.exchange(model, a, b{script.decoding(generation)})")
    script.say("decoded = [row.example for row in rows]")
    script.show("decoded")
    line = command(space, "exchange", words(space, ends), [], generation)
    return {"items": items, "python": script.text(), "command": line}


def arithmetic(space: Space, body: bodies.Arithmetic) -> Answer:
    """A weighted sum of the latents of inputs; an analogy if the weights make it one.

    Of a model with two levels, of the summaries, with hidden details.
    """
    space.check_space()
    generation = body.decoding.generation
    inputs, weights = [term.input for term in body.terms], [term.weight for term in body.terms]
    order = _analogy(weights)
    if order is not None:  # a, b, c, as the command reads them, so that the numbers are equal
        inputs = [inputs[place] for place in order]
    examples = [space.example(given) for given in inputs]
    mean, own = space.model.encode(examples).mean, likely_labels(space.model, examples)
    parts = space.decoded(mean, generation, own)
    script, summary = Script(space), space.model.config.summary
    if order is None:
        z = without_details(torch.tensordot(torch.tensor(weights), mean, 1), summary)
        main, line = max(range(len(weights)), key=weights.__getitem__), None
        script.say(f"inputs = {script.inputs(inputs)}")
        summed = f"torch.tensordot(torch.tensor({weights!r}), model.encode(inputs).mean, 1)"
        script.say(f"z = without_details({summed}, {summary})" if summary else f"z = {summed}")
        labels = f"likely_labels(model, inputs)[{main}:{main + 1}]" if own else ""
        script.decode("z.unsqueeze(0)", generation, labels)
    else:
        weight, main = weights[order[1]], 2
        a, b, c = mean.unsqueeze(1)
        z = search.arithmetic(space.model, examples[2:], a, b, c, weight, own[2:])[0]
        parts = [parts[order.index(place)] for place in range(3)]
        how = f"{weight!r}{script.decoding(generation)}"
        script.say(f"a, b, c = {script.inputs(inputs)}")
        script.say(f"decoded = [isthmus.analogy(model, a, b, c, {how})]")
        script.show("decoded")
        line = command(space, "analogy", words(space, inputs), ["--weight", weight], generation)
    items = space.decoded(z.unsqueeze(0), generation, own[main : main + 1])
    return {"items": items, "parts": parts, "python": script.text(), "command": line}


def _analogy(weights: Sequence[float]) -> tuple[int, int, int] | None:
    """Places of a, b and c if the weights are those of z_c + w (z_b − z_a); None otherwise."""
    if len(weights) != 3:
        return None
    for c in range(3):
        b, a = sorted({0, 1, 2} - {c}, key=lambda place: -weights[place])
        if weights[c] == 1 and weights[b] == -weights[a] > 0:
            return a, b, c
    return None


def dimensions(space: Space, body: bodies.Dimensions) -> Answer:
    """Move a latent along some dimensions, in units of their spread.

    Of a model with two levels, its summary, with hidden details.
    """
    generation = body.decoding.generation
    start, own, script = _start(space, body.input, body.z)
    size = start.numel()
    offsets = {}
    for name, offset in body.offsets.items():
        if not name.isdecimal() or int(name) >= size:
            raise IsthmusError(
                f"offsets: got dimension {name!r}, expected one from 0 to {size - 1}"
            )
        offsets[int(name)] = offset
    line = None
    if len(offsets) == 1 and body.input is not None:
        [(dimension, offset)] = offsets.items()
        flags = ["--dimension", dimension, "--steps", 3, "--reach", abs(offset)]
        line = command(space, "traverse", words(space, [body.input]), flags, generation)
    step = torch.zeros(size)
    for dimension, offset in offsets.items():
        step[dimension] = offset * space.spread[dimension]
    # Both sides in one batch, as the command traverse does, so that the texts are equal.
    sides = torch.tensor([-1.0, 0.0, 1.0]).unsqueeze(1) * step
    z = start + sides.view(3, *start.shape)
    items = space.decoded(z, generation, own * 3)
    script.say(f"step = torch.zeros({size})")
    for dimension in offsets:
        script.say(f"step[{dimension}] = {step[dimension].item()!r}")
    script.say("sides = torch.tensor([-1.0, 0.0, 1.0]).unsqueeze(1) * step")
    script.say("z = start + sides.view(3, *start.shape)")
    script.decode("z", generation, "likely_labels(model, given) * 3" if own else "")
    return {
        "items": items[2:],
        "base": items[1],
        "opposite": items[0],
        "python": script.text(),
        "command": line,
    }


def _start(
    space: Space, given: Given | None, z: Sequence[float] | None
) -> tuple[Tensor, list[str], Script]:
    """A summary, or a latent of one level, its label if the decoder reads one, and a script.

    The script defines ``start``.
    """
    space.check_space()
    if (given is None) == (z is None):
        raise IsthmusError("expected exactly one of input and z")
    script = Script(space)
    if given is None:
        assert z is not None
        start = summary_of(space.model, space.check_latents([z]))[0]
        numbers = list(z) if start.ndim == 1 else start.tolist()
        script.say(f"start = torch.tensor({numbers!r})")
        return start, [], script
    example = [space.example(given)]
    script.say(
        f"given = {script.inputs([given])}", f"start = model.encode(given).mean{script.about}[0]"
    )
    start = summary_of(space.model, space.model.encode(example).mean)[0]
    return start, likely_labels(space.model, example), script


def neighbours(space: Space, body: bodies.Neighbours) -> Answer:
    """The examples of the corpus with the nearest latents."""
    known = space.known_map()
    z, _, script = _start(space, body.input, body.z)
    distances, indices = known.nearest(z.unsqueeze(0), body.count)
    found = [
        {**described(space, index), "distance": distance}
        for distance, index in zip(distances[0].tolist(), indices[0].tolist(), strict=True)
    ]
    script.read_corpus()
    script.say(
        f"known = model.encode(corpus.examples).mean{script.about}",
        f"distances, indices = neighbours(start.unsqueeze(0), known, {body.count})",
        "print([(corpus.names[index], distance) for index, distance in",
        "       zip(indices[0].tolist(), distances[0].tolist())])",
    )
    line, data = None, space.whole_data
    if data and body.input is not None and (given := words(space, [body.input])):
        flags = ["--count", body.count]
        line = command(space, "neighbours", [data, *given], flags, writes=False)
    return {"neighbours": found, "python": script.text(), "command": line}


def described(space: Space, index: int) -> Answer:
    """An example of the corpus with its label, cluster and figures."""
    corpus, known = space.corpus, space.map
    found = {
        "index": index,
        **space.shown(space.corpus_example(index)),
        "label": corpus.labels and corpus.labels[index],
        "name": corpus.names[index],
    }
    if known is None:
        return found
    values = {"kl": float(known.kl[index]), "reconstruction": float(known.reconstruction[index])}
    return {
        **found,
        **{name: value if value == value else None for name, value in values.items()},
        "cluster": None if known.clusters is None else int(known.clusters[index]),
        "length": len(found["text"].split()) if "text" in found else None,
    }


def sample(space: Space, body: bodies.Sample) -> Answer:
    """Decode latents drawn from the prior, or from a mixture fitted to the corpus."""
    space.check_space()
    model, generation = space.model, replace(body.decoding.generation, seed=body.seed)
    prior, script, other = model.prior, Script(space), ""
    line = command(space, "sample", [], ["--count", body.count], generation)
    if body.source == "aggregate":
        prior, other, line = space.known_map().mixture, ", prior=prior", None
        script.read_corpus()
        summary = model.config.summary
        cut = f".latents(slice({summary}))" if summary else ""
        script.say(f"prior = mixture_of(model.encode(corpus.examples){cut})")
    generator = torch.Generator().manual_seed(body.seed)
    z = prior.sample(body.count, generator).detach().cpu()
    own = sample_labels(model, body.count, generator) if generation.label is None else []
    how = f"seed={body.seed}{script.decoding(generation)}{other}"
    script.say(f"decoded = isthmus.sample(model, {body.count}, {how})")
    script.show("decoded")
    items = space.decoded(z, drawing(model, generation), own)
    return {"items": items, "python": script.text(), "command": line}
