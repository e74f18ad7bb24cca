"""Serve a space to many users: encode, decode and interpolate behind one address.

What waits while the model computes is computed together in its next pass. Each worker is a process
with a model of its own; without ISTHMUS_TOKEN only this machine is answered.

    ISTHMUS_RUN=runs/reviews uvicorn --factory --app-dir examples serve:app --workers 2
    curl localhost:8000/api/encode --json '{"texts": ["the food was cold"]}'
"""

import asyncio
import os
from collections import deque

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.types import ASGIApp

import isthmus
from isthmus.errors import IsthmusError
from isthmus.explore import interpolate
from isthmus.studio import limits
from isthmus.studio.bodies import Body, Latent
from isthmus.studio.guard import Guard, Rules

MOST = 128  # texts or latents of one pass


class Texts(Body):
    """Texts to encode."""

    texts: list[str] = Field(min_length=1, max_length=limits.BATCH)


class Latents(Body):
    """Latents to decode, the numbers of each in a row."""

    z: list[Latent] = Field(min_length=1, max_length=limits.BATCH)


class Ends(Body):
    """Two texts, and the number of points between them."""

    a: str
    b: str
    steps: int = Field(5, ge=0, le=limits.STEPS)


class Together:
    """A function of a list, called once for all who wait for it."""

    def __init__(self, function, free: asyncio.Lock):
        self.function, self.free = function, free
        self.waiting = deque()

    async def __call__(self, items):
        """The results for some items, in their order."""
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((items, answer))
        async with self.free:  # whoever comes first computes for those behind as well
            while not answer.done():
                await self.compute()
        return answer.result()

    async def compute(self):
        """Answer the first who wait, as many as one pass takes."""
        taken, items = [], []
        while self.waiting and (not items or len(items) + len(self.waiting[0][0]) <= MOST):
            taken.append(self.waiting.popleft())
            items += taken[-1][0]
        try:
            results = await asyncio.to_thread(self.function, items)
        except Exception as error:
            for _, answer in taken:
                answer.set_exception(error)
            return
        for own, answer in taken:
            mine, results = results[: len(own)], results[len(own) :]
            answer.set_result(mine)


def make(space: isthmus.Space, token: str = "") -> ASGIApp:
    """The application."""
    model, free, api = space.model, asyncio.Lock(), FastAPI(openapi_url=None)
    encode = Together(lambda texts: model.encode(texts).mean, free)
    decode = Together(lambda rows: model.decode(torch.stack(rows)), free)

    @api.post("/api/encode")
    async def encoded(body: Texts):
        z = await encode([limits.check_text(text) for text in body.texts])
        return {"z": z.flatten(1).tolist()}

    @api.post("/api/decode")
    async def decoded(body: Latents):
        z = model.as_latents(space.unflattened(body.z))
        return {"texts": await decode([*z])}

    @api.post("/api/interpolate")
    async def interpolated(body: Ends):
        start, end = await encode([limits.check_text(text) for text in (body.a, body.b)])
        walk = interpolate(start, end, body.steps, summary=model.config.summary)
        return {"texts": await decode([*walk])}

    @api.exception_handler(IsthmusError)
    async def refused(request: Request, error: IsthmusError):
        return JSONResponse({"error": str(error)}, 400)

    return Guard(api, Rules("0.0.0.0" if token else "127.0.0.1", token, limits.BODY))


def app() -> ASGIApp:
    """The application of the run that the environment names."""
    space = isthmus.Space.load(os.environ["ISTHMUS_RUN"])
    return make(space, os.environ.get("ISTHMUS_TOKEN", ""))
