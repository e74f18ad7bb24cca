"""What the studio answers: functions of an open run and a request, each with its code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import IsthmusError
from isthmus.explore.walks import (
    analogy,
    between,
    interpolate,
    labels_between,
    likely_labels,
    losses_under,
)
from isthmus.models.generation import Generation
from isthmus.models.text_model import sample_labels
from isthmus.studio import bodies, limits
from isthmus.studio.code import Given, Script, command, piped, words
from isthmus.studio.examples import for_texts, has_both, shown
from isthmus.studio.limits import is_address
from isthmus.studio.space import Space

Answer = dict[str, Any]


def decode(space: Space, body: bodies.Decode) -> Answer:
    """Items of latents, or of a place of the map."""
    if (body.z is None) == (body.place is None):
        raise IsthmusError("decode: expected either z or place, and not both")
    generation, how = body.decoding.generation, "these are the latents"
    if body.z is not None:
        z = space.check_latents(body.z)
    else:
        assert body.place is not None
        found, how = space.known_map().place(body.place[0], body.place[1], body.projection)
        z = found.unsqueeze(0)
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
        "python": script.text(torch=True),
        "command": line,
    }


def tsne(space: Space) -> Answer:
    """Begin the map of t-SNE; GET /api/map tells when it is there."""
    space.known_map().start_tsne()
    script = Script(space)
    script.read_corpus()
    script.use("isthmus.studio.projections", "tsne")
    script.say("# t-SNE enlarges rounding: the same groups, not the same places to the digit.")
    script.say("print(tsne(model.encode(corpus.examples).mean).tolist())")
    state = space.known_map().status()["projections"]["tsne"]
    return {**state, "python": script.text(), "command": None}


def encode(space: Space, body: bodies.Encode) -> Answer:
    """Inputs through the latent and back."""
    space.check_space()
    examples = [space.example(given) for given in body.inputs]
    generation = body.decoding.generation
    posterior = space.model.encode(examples)
    own = likely_labels(space.model, examples)
    items = space.decoded(posterior.mean, generation, own)
    noise = torch.randn(1, *posterior.mean.shape, generator=torch.Generator().manual_seed(0))
    there = posterior.to(space.model.device)
    kl = there.kl(space.model.prior, there.rsample(noise=noise)).sum(-1)
    losses = losses_under(space.model, examples, posterior.mean)
    rows = zip(items, examples, kl.tolist(), losses.tolist(), strict=True)
    for item, example, divergence, loss in rows:
        item |= {"input": shown(example), "kl": divergence, "input_nats": loss}
    places = {}
    if space.map is not None and space.map.ready:
        places["pca"] = space.map.plane().places(posterior.mean).tolist()
    script = Script(space)
    script.say(f"inputs = {script.inputs(body.inputs)}", "posterior = model.encode(inputs)")
    if own:
        script.use("isthmus.explore.walks", "likely_labels")
    script.decode("posterior.mean", generation, "likely_labels(model, inputs)" if own else "")
    script.use("isthmus.explore.walks", "losses_under")
    script.say("print(losses_under(model, inputs, posterior.mean).tolist())")
    return {
        "items": items,
        "places": places,
        "python": script.text(),
        "command": piped(space, "reconstruct", body.inputs, [], generation),
    }


def caption(space: Space, body: bodies.Caption) -> Answer:
    """What a picture shows, in words: in at one door of a latent, out at the other."""
    _check_both(space)
    if not is_address(body.picture):
        raise IsthmusError("picture: expected data:image/png;base64,…")
    given: list[Given] = [body.picture]
    answer = encode(space, bodies.Encode(inputs=given, decoding=body.decoding))
    generation = body.decoding.generation
    line = command(space, "caption", words(space, given), [], generation)
    return {**answer, "command": line}


def draw(space: Space, body: bodies.Draw) -> Answer:
    """A picture of what a text says."""
    _check_both(space)
    given: list[Given] = [limits.check_text(body.text)]
    answer = encode(space, bodies.Encode(inputs=given, decoding=body.decoding))
    script = Script(space)
    script.say(f"z = model.encode({script.inputs(given)}).mean")
    script.say('decoded = model.decode(z, isthmus.Generation(part="picture"))')
    script.use("pathlib", "Path")
    script.use("isthmus.data.pictures", "write_grid")
    script.say('write_grid([decoded], Path("pictures.png"))')
    line = command(space, "draw", words(space, given), ["--out", "pictures.png"])
    return {**answer, "python": script.text(), "command": line}


def _check_both(space: Space) -> None:
    if not has_both(space.model):
        raise IsthmusError("this is no run of pictures with captions; open one")


def walk(space: Space, body: bodies.Walk) -> Answer:
    """From one input to another: all points of the way, or the one at a position."""
    space.check_space()
    generation, ends = body.decoding.generation, [body.a, body.b]
    examples = [space.example(end) for end in ends]
    mean = space.model.encode(examples).mean
    script = Script(space)
    script.say(f"ends = {script.inputs(ends)}", "mean = model.encode(ends).mean")
    if body.position is None:
        z = interpolate(mean[0], mean[1], body.steps, body.path)
        positions = [i / (len(z) - 1) for i in range(len(z))]
        script.use("isthmus.explore.walks", "interpolate")
        script.say(f"z = interpolate(mean[0], mean[1], {body.steps}, {body.path!r})")
        flags = ["--steps", body.steps, "--path", body.path]
        line = command(space, "interpolate", words(space, ends), flags, generation)
    else:
        positions = [body.position]
        z = between(mean[0], mean[1], torch.tensor(positions, dtype=torch.double), body.path)
        script.use("isthmus.explore.walks", "between")
        script.say(f"places = torch.tensor({positions!r}, dtype=torch.double)")
        script.say(f"z = between(mean[0], mean[1], places, {body.path!r})")
        line = None
    own = likely_labels(space.model, examples)
    items = space.decoded(z, generation, labels_between(own, positions))
    for item, position in zip(items, positions, strict=True):
        item["position"] = position
    told = ""
    if own:
        script.use("isthmus.explore.walks", "labels_between", "likely_labels")
        script.say("own = likely_labels(model, ends)")
        told = f"labels_between(own, {positions!r})"
    script.decode("z", generation, told)
    return {
        "items": items,
        "python": script.text(torch=body.position is not None),
        "command": line,
    }


def arithmetic(space: Space, body: bodies.Arithmetic) -> Answer:
    """A weighted sum of the latents of inputs; an analogy where it is one."""
    space.check_space()
    generation = body.decoding.generation
    inputs, weights = [term.input for term in body.terms], [term.weight for term in body.terms]
    order = _analogy(weights)
    if order is not None:  # a, b, c, as the verb takes them, so that it computes the same numbers
        inputs = [inputs[place] for place in order]
    examples = [space.example(given) for given in inputs]
    mean = space.model.encode(examples).mean
    script = Script(space)
    script.say(f"inputs = {script.inputs(inputs)}", "mean = model.encode(inputs).mean")
    if order is None:
        z = torch.tensor(weights) @ mean
        script.say(f"z = torch.tensor({weights!r}) @ mean")
        main, line = max(range(len(weights)), key=weights.__getitem__), None
    else:
        weight = weights[order[1]]
        first, second, third = mean
        z, main = analogy(first, second, third, weight), 2
        script.use("isthmus.explore.walks", "analogy")
        script.say(f"z = analogy(*mean, {weight!r})")
        line = command(space, "analogy", words(space, inputs), ["--weight", weight], generation)
    own = likely_labels(space.model, examples)
    items = space.decoded(z.unsqueeze(0), generation, own[main : main + 1])
    parts = space.decoded(mean, generation, own)
    if order is not None:
        parts = [parts[order.index(place)] for place in range(3)]
    if own:
        script.use("isthmus.explore.walks", "likely_labels")
    told = f"likely_labels(model, inputs)[{main}:{main + 1}]" if own else ""
    script.decode("z.unsqueeze(0)", generation, told)
    return {
        "items": items,
        "parts": parts,
        "python": script.text(torch=order is None),
        "command": line,
    }


def _analogy(weights: Sequence[float]) -> tuple[int, int, int] | None:
    """Places of a, b and c in weights of z_c + w (z_b − z_a); None for other sums."""
    if len(weights) != 3:
        return None
    for c in range(3):
        b, a = sorted({0, 1, 2} - {c}, key=lambda place: -weights[place])
        if weights[c] == 1 and weights[b] == -weights[a] > 0:
            return a, b, c
    return None


def dimensions(space: Space, body: bodies.Dimensions) -> Answer:
    """A latent moved along some dimensions, in units of their spread."""
    generation = body.decoding.generation
    start, own, script = _standing_point(space, body.input, body.z)
    size = len(start)
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
    # Both sides, as the verb traverse shows them: the same texts in the same batch.
    z = start + torch.tensor([-1.0, 0.0, 1.0]).unsqueeze(1) * step
    items = space.decoded(z, generation, own * 3)
    script.say(f"step = torch.zeros({size})")
    for dimension in offsets:
        script.say(f"step[{dimension}] = {step[dimension].item()!r}")
    script.say("z = start + torch.tensor([-1.0, 0.0, 1.0]).unsqueeze(1) * step")
    if own:
        script.use("isthmus.explore.walks", "likely_labels")
    script.decode("z", generation, "likely_labels(model, given) * 3" if own else "")
    return {
        "items": items[2:],
        "base": items[1],
        "opposite": items[0],
        "python": script.text(torch=True),
        "command": line,
    }


def _standing_point(
    space: Space, given: Given | None, z: Sequence[float] | None
) -> tuple[Tensor, list[str], Script]:
    """A latent [P], its label if it has one, and the script that finds ``start``."""
    space.check_space()
    if (given is None) == (z is None):
        raise IsthmusError("expected either input or z, and not both")
    script = Script(space)
    if given is None:
        assert z is not None
        script.say(f"start = torch.tensor({list(z)!r})")
        return space.check_latents([z])[0], [], script
    example = [space.example(given)]
    script.say(f"given = {script.inputs([given])}", "start = model.encode(given).mean[0]")
    return space.model.encode(example).mean[0], likely_labels(space.model, example), script


def neighbours(space: Space, body: bodies.Neighbours) -> Answer:
    """The examples of the corpus whose latents are nearest."""
    known = space.known_map()
    z, _, script = _standing_point(space, body.input, body.z)
    distances, indices = known.nearest(z.unsqueeze(0), body.count)
    found = [
        {**described(space, index), "distance": distance}
        for distance, index in zip(distances[0].tolist(), indices[0].tolist(), strict=True)
    ]
    script.use("isthmus.explore.walks", "neighbours")
    script.read_corpus()
    script.say("known = model.encode(corpus.examples).mean")
    script.say(f"distances, indices = neighbours(start.unsqueeze(0), known, {body.count})")
    script.say("print([(corpus.names[index], distance) for index, distance in")
    script.say("       zip(indices[0].tolist(), distances[0].tolist())])")
    line, data = None, space.whole_data
    if data and body.input is not None and (given := words(space, [body.input])):
        flags = ["--count", body.count]
        line = command(space, "neighbours", [data, *given], flags, sheet=False)
    return {"neighbours": found, "python": script.text(body.z is not None), "command": line}


def described(space: Space, index: int) -> Answer:
    """An example of the corpus with what is known of it."""
    example, known, corpus = space.corpus_example(index), space.map, space.corpus
    told = {
        "index": index,
        **shown(example),
        "label": corpus.labels and corpus.labels[index],
        "name": corpus.names[index],
    }
    if known is None:
        return told
    values = {name: float(known.colour(name)[index]) for name in ("kl", "reconstruction")}
    told |= {name: value if value == value else None for name, value in values.items()}
    told["cluster"] = None if known.clusters is None else int(known.clusters[index])
    told["length"] = len(told["text"].split()) if "text" in told else None
    return told


def sample(space: Space, body: bodies.Sample) -> Answer:
    """Latents from the prior, or from a mixture fitted to the corpus, decoded."""
    space.check_space()
    model, generation = space.model, replace(body.decoding.generation, seed=body.seed)
    prior, script, told = model.prior, Script(space), ""
    line = command(space, "sample", [], ["--count", body.count], generation)
    if body.source == "aggregate":
        prior = space.known_map().mixture
        script.use("isthmus.explore.walks", "mixture_of")
        script.read_corpus()
        script.say("prior = mixture_of(model.encode(corpus.examples))")
        told, line = ", prior=prior", None
    generator = torch.Generator().manual_seed(body.seed)
    z = prior.sample(body.count, generator).detach().cpu()
    own = sample_labels(model, body.count, generator) if generation.label is None else []
    script.use("isthmus.explore.walks", "sample")
    plain = for_texts(model, generation) == Generation()
    how = "" if plain else f", generation={script.generation(generation)}"
    script.say(f"decoded = sample(model, {body.count}, seed={body.seed}{how}{told})")
    script.show("decoded")
    return {
        "items": space.decoded(z, generation, own),
        "python": script.text(),
        "command": line,
    }
