"""The studio's answers about control codes: texts under codes, and the code of a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isthmus.errors import IsthmusError
from isthmus.evaluation.attribution import attribute as attributed
from isthmus.evaluation.attribution import attribute_tokens, code_prior, log_likelihoods
from isthmus.evaluation.calibration import marginal
from isthmus.explore import sample, unwritten
from isthmus.models.generation import Generation
from isthmus.models.labels import label_set
from isthmus.models.text_model import text_model
from isthmus.studio import bodies, limits
from isthmus.studio.code import Script, command, decoding_flags, piped
from isthmus.studio.space import Space

SAMPLES = 10
"""Draws of z for log p(x|c), as in the command attribute."""


def generate(space: Space, body: bodies.Generate) -> dict[str, Any]:
    """Texts under a code, a mixture of codes, or none."""
    generation = _generation(space, body)
    texts = sample(space.model, body.count, body.seed, generation)
    written = [
        {"text": text, "log_probability": value}
        for text, value in zip(texts, _log_probability(space, texts, generation), strict=True)
    ]
    script = Script(space)
    script.say(f"generation = {script.generation(generation)}")
    how = f"seed={body.seed}, generation=generation"
    script.say(f"texts = isthmus.sample(model, {body.count}, {how})")
    script.show("texts")
    condition = f" | {generation.label}" if generation.label else ""
    return {
        "texts": written,
        "log_probability_of": f"log p(text{condition})",
        "python": script.text(),
        "command": _command(space, body, generation),
    }


def _generation(space: Space, body: bodies.Generate) -> Generation:
    model = text_model(space.model)
    if body.code and body.mixture:
        raise IsthmusError("generate: got both code and mixture; leave one out")
    if body.prompt:
        limits.check_text(body.prompt)
    if body.detail:
        limits.check_text(body.detail)
    if body.detail and not body.code:
        raise IsthmusError("detail: got free text without a code; choose a code")
    total, names = sum(body.mixture.values()), label_set(model).read_names
    for name in [body.code, body.against, *body.mixture]:
        if name and name not in names:
            known = ", ".join(names[:10]) or "none"
            raise IsthmusError(f"code: got {name[:60]!r}, expected one of {known}")
    return replace(
        body.settings(body.code),
        mixture=tuple((name, weight / total) for name, weight in body.mixture.items()),
        detail=body.detail,
        prompt=body.prompt,
        banned=unwritten(model),
        exempt=tuple(model.codec.ids("\n")),
    )


def _log_probability(space: Space, texts: list[str], generation: Generation) -> list[float | None]:
    """log p(x|c) of texts under their one code, else log p(x), codes summed out; nats.

    For a model with a latent, a bound from one draw. None in a run without codes.
    """
    model, names = space.model, label_set(space.model).read_names
    if not names:
        return [None] * len(texts)
    places = None if generation.label is None else [names.index(generation.label)]
    found = log_likelihoods(model, model.codec.prepare(texts), places=places)
    values = found[:, 0] if places else marginal(found, code_prior(model, "stored"))
    return values.tolist()


def _command(space: Space, body: bodies.Generate, generation: Generation) -> str | None:
    codes = [body.code, *([body.detail] if body.detail else [])] if body.code else []
    codes += [f"{name}={weight!r}" for name, weight in body.mixture.items()]
    if any(word.startswith("-") for word in [body.prompt, *filter(None, codes)]):
        return None
    flags: list[Any] = ["--count", body.count]
    for code in codes:
        flags += ["--code", code]
    if body.prompt:
        flags += ["--prompt", body.prompt]
    flags += decoding_flags(replace(generation, label=None), nucleus=True)
    return command(space, "generate", [], flags)


def attribute(space: Space, body: bodies.Attribute) -> dict[str, Any]:
    """How likely each code is given a text, and which codes each token favours."""
    text_model(space.model)
    text = [limits.check_text(body.text)]
    found = attributed(space.model, text, "uniform", SAMPLES)
    [each] = attribute_tokens(space.model, text, "uniform")
    script = Script(space)
    script.say(
        f"texts = {text!r}",
        f'found = attribute(model, texts, "uniform", {SAMPLES})',
        "print(dict(zip(found.names, found.log_posterior[0].exp().tolist())))",
        '[tokens] = attribute_tokens(model, texts, "uniform")',
        "print(list(zip(tokens.tokens, tokens.evidence.tolist())))",
    )
    return {
        "codes": list(found.names),
        "posterior": found.log_posterior[0].exp().tolist(),
        "prior": found.log_prior.exp().tolist(),
        "log_probability": found.log_marginal[0].item(),
        "tokens": [
            {"text": token, "evidence": evidence}
            for token, evidence in zip(each.tokens, each.evidence.tolist(), strict=True)
        ],
        "python": script.text(),
        "command": piped(space, "attribute", text, ["--tokens", "--json"]),
    }
