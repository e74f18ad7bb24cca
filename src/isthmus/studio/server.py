"""The server: one static page, and a JSON interface to an open run or a signs report."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from isthmus.errors import IsthmusError
from isthmus.studio import (
    answers,
    bodies,
    codebook,
    control,
    limits,
    meaning,
    searching,
    structures,
)
from isthmus.studio.guard import Guard, Rules
from isthmus.studio.health import health as read_health
from isthmus.studio.jobs import CancelledJob, FullQueue, Job, Jobs, NameTaken
from isthmus.studio.map import Colour, Projection
from isthmus.studio.signs import Report
from isthmus.studio.space import Space, watched

STATIC = Path(__file__).parent / "static"
POLL = 0.25
"""Seconds between two checks whether a waiting client is still connected."""
JOB_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

JobName = Annotated[str | None, Header(alias="X-Job")]


def job_name(given: str | None) -> str:
    """The client's name for a job, or a new one."""
    if given is None:
        return secrets.token_hex(8)
    if not JOB_NAME.fullmatch(given):
        raise IsthmusError(
            f"X-Job: got {given[:80]!r}, expected 1 to 64 letters, digits, dots, dashes or "
            "underscores"
        )
    return given


def make(space: Space, host: str = "127.0.0.1", token: str = "", address: str = "") -> ASGIApp:
    """The application for a run.

    Args:
        space: The run.
        host: The address that the server is bound to.
        token: The secret that clients must present; none if empty.
        address: What visitors open, if a proxy serves the studio; see `guard.outer_address`.
    """
    jobs = Jobs()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if space.map is not None:
            jobs.in_background(space.map.work())
        yield
        jobs.close()

    app = _empty(lifespan)
    run_routes(app, space)
    for name in CALLS:
        call_route(app, space, jobs, name)
    job_routes(app, jobs)
    body = limits.PICTURE_BODY if space.kind.has_pictures else limits.BODY
    return _finished(app, Rules(host, token, body, address))


def _empty(lifespan: Any = None) -> FastAPI:
    """An application without routes, whose errors are one line of JSON each."""
    app = FastAPI(
        title="Isthmus studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.add_exception_handler(IsthmusError, _refusal)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)
    return app


def _finished(app: FastAPI, rules: Rules) -> Guard:
    """The guarded application, with the page and an error for unknown addresses below /api."""

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    def unknown(path: str) -> Response:
        return _error(404, "no such address")

    app.mount("/", StaticFiles(directory=STATIC, html=True, check_dir=False), name="page")
    return Guard(app, rules)


def make_signs(
    report: Report, host: str = "127.0.0.1", token: str = "", address: str = ""
) -> ASGIApp:
    """The application for a signs report; arguments as for :func:`make`."""
    app = _empty()

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return report.run()

    @app.get("/api/signs")
    def signs() -> dict[str, Any]:
        return report.content()

    @app.get("/api/signs/picture")
    def picture(id: str) -> Response:
        return Response(report.picture(id), media_type="image/png")

    @app.post("/api/signs/decide")
    def decide(body: bodies.Decide) -> dict[str, Any]:
        return report.decide(body.id, body.decision)

    @app.post("/api/signs/apply")
    def apply(body: bodies.Empty) -> dict[str, Any]:
        return report.apply()

    return _finished(app, Rules(host, token, limits.BODY, address))


def run_routes(app: FastAPI, space: Space) -> None:
    """Add the routes that need no model call."""

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return space.summary()

    @app.get("/api/health")
    def health() -> dict[str, Any]:
        return read_health(Path(space.run))

    @app.get("/api/map")
    def map_state() -> dict[str, Any]:
        return space.known_map().status()

    @app.post("/api/map/tsne", status_code=202)
    def tsne(body: bodies.Empty) -> dict[str, Any]:
        return answers.tsne(space)

    @app.get("/api/map/points")
    def points(projection: Projection = "pca") -> Response:
        return _numbers(space.known_map().points(projection))

    @app.get("/api/map/colour")
    def colour(by: Colour) -> Response:
        return _numbers(space.known_map().colour(by))

    @app.get("/api/texts")
    def texts(indices: str) -> dict[str, Any]:
        return {"texts": [answers.described(space, index) for index in _indices(indices)]}

    @app.get("/api/find")
    def find(text: str, limit: int = 50) -> dict[str, Any]:
        return space.find(text, limit)

    @app.get("/api/structure")
    def structure(text: str) -> Response:
        kept = {"Cache-Control": "private, max-age=86400"}
        return Response(structures.drawing(text), media_type="image/svg+xml", headers=kept)


CALLS: dict[str, tuple[type[bodies.Body], Callable[[Space, Any], Any]]] = {
    "decode": (bodies.Decode, answers.decode),
    "encode": (bodies.Encode, answers.encode),
    "walk": (bodies.Walk, answers.walk),
    "exchange": (bodies.Exchange, answers.exchange),
    "arithmetic": (bodies.Arithmetic, answers.arithmetic),
    "dimensions": (bodies.Dimensions, answers.dimensions),
    "neighbours": (bodies.Neighbours, answers.neighbours),
    "sample": (bodies.Sample, answers.sample),
    "caption": (bodies.Caption, answers.caption),
    "draw": (bodies.Draw, answers.draw),
    "generate": (bodies.Generate, control.generate),
    "attribute": (bodies.Attribute, control.attribute),
    "codebook": (bodies.Empty, codebook.listed),
    "meaning": (meaning.Measure, meaning.meaning),
    "optimise": (searching.Search, searching.search),
}
"""Model calls at /api/NAME: the type of the request, and the function that answers it."""


def call_route(app: FastAPI, space: Space, jobs: Jobs, name: str) -> None:
    """Add the route of one of CALLS."""
    body_type, call = CALLS[name]

    async def answer(body: bodies.Body, request: Request, job: JobName = None) -> Response:
        submitted = jobs.submit(
            job_name(job),
            lambda job: watched(space.model, job.step, lambda: call(space, body)),
            body.passes,
        )
        return await _result(jobs, submitted, request)

    answer.__annotations__["body"] = body_type  # FastAPI parses a request by it
    app.post(f"/api/{name}")(answer)


async def _result(jobs: Jobs, job: Job, request: Request) -> Response:
    """Wait for the result of a job, and cancel it if the client disconnects."""
    waiting = asyncio.wrap_future(job.result)
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=POLL)
            if not waiting.done() and await request.is_disconnected():
                jobs.cancel(job.name)
    except asyncio.CancelledError:
        jobs.cancel(job.name)
        raise
    try:
        return JSONResponse(waiting.result())
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        return _error(503, "out of memory; ask for fewer or shorter texts")


def job_routes(app: FastAPI, jobs: Jobs) -> None:
    """Add the routes that report on model calls and cancel them."""

    @app.get("/api/jobs/{name}")
    def status(name: str) -> Response:
        found = jobs.status(name)
        if found is None:
            return _error(404, "no such job")
        return JSONResponse(found)

    @app.delete("/api/jobs/{name}")
    def cancel(name: str) -> Response:
        if not jobs.cancel(name):
            return _error(404, "no such job is waiting or running")
        return JSONResponse({"state": "cancelled"})


def _numbers(values: Any) -> Response:
    return Response(values.astype("<f4").tobytes(), media_type="application/octet-stream")


def _indices(given: str) -> list[int]:
    """Numbers separated by commas."""
    parts = given.split(",")
    if len(parts) > limits.LISTED or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise IsthmusError(
            f"indices: got {given[:60]!r}, expected at most {limits.LISTED} numbers from 0, "
            "separated by commas"
        )
    return [int(part) for part in parts]


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, FullQueue):
        return _error(503, str(error), {"Retry-After": "5"})
    return _error(409 if isinstance(error, CancelledJob | NameTaken) else 400, str(error))


async def _http_error(request: Request, error: Any) -> Response:
    return _error(error.status_code, str(error.detail), error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """The first thing wrong with a request, in one line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _error(422, "request: got something else, expected JSON")
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    got = "" if first["type"] == "missing" else f", got {_short(first.get('input'))}"
    return _error(422, f"{where or 'request'}: {first['msg']}{got}")


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"


async def _fault(request: Request, error: Exception) -> Response:
    """An unexpected error; the traceback goes to the terminal."""
    return _error(500, "the server failed; see its terminal for the reason")
