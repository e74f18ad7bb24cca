"""The server: one static page, and a JSON interface to an open run or a report on signs."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, final

from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from isthmus.errors import IsthmusError
from isthmus.studio import answers, bodies, control, limits
from isthmus.studio.guard import Guard, Rules
from isthmus.studio.health import health as read_health
from isthmus.studio.jobs import CancelledJob, FullQueue, Jobs, NameTaken
from isthmus.studio.map import Colour, Projection
from isthmus.studio.signs import Report
from isthmus.studio.space import Space, watched

STATIC = Path(__file__).parent / "static"
PATIENCE = 0.25
"""Seconds between two looks at whether a client that waits is still there."""
JOB_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

JobName = Annotated[str | None, Header(alias="X-Job")]


@final
class Calls:
    """Model calls of one run, each answered when its turn has come."""

    def __init__(self, space: Space, jobs: Jobs) -> None:
        self.space, self.jobs = space, jobs

    async def answer(
        self, request: Request, name: str | None, steps: int, call: Callable[[], Any]
    ) -> JSONResponse:
        """Queue a call and wait for its result; a client that goes away is cancelled."""
        job = self.jobs.submit(
            job_name(name), lambda job: watched(self.space.model, job.step, call), steps
        )
        waiting = asyncio.wrap_future(job.result)
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=PATIENCE)
                if not waiting.done() and await request.is_disconnected():
                    self.jobs.cancel(job.name)
        except asyncio.CancelledError:
            self.jobs.cancel(job.name)
            raise
        try:
            return JSONResponse(waiting.result())
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            told = "out of memory; ask for fewer or shorter texts"
            return JSONResponse({"error": told}, 503)


def job_name(given: str | None) -> str:
    """The name of a job: the client's, or a new one."""
    if given is None:
        return secrets.token_hex(8)
    if not JOB_NAME.fullmatch(given):
        raise IsthmusError(
            "X-Job: expected 1 to 64 letters, digits, points, dashes or underscores"
        )
    return given


def make(space: Space, host: str = "127.0.0.1", token: str = "") -> ASGIApp:
    """The application for a run.

    Arguments:
        space: the run.
        host: the address that it will be bound to.
        token: what its clients have to know; empty: nothing.
    """
    jobs = Jobs()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if space.map is not None:
            jobs.behind(space.map.work())
        yield
        jobs.close()

    app = bare(lifespan)
    run_routes(app, space)
    calls = Calls(space, jobs)
    for name in CALLS:
        call_route(app, calls, name)
    job_routes(app, jobs)
    finish(app)
    body = limits.PICTURE_BODY if space.kind.has_pictures else limits.BODY
    return Guard(app, Rules(host, token, body))


def bare(lifespan: Any = None) -> FastAPI:
    """An application without routes, whose errors are one line of JSON each."""
    app = FastAPI(
        title="Isthmus studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.add_exception_handler(IsthmusError, _told_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_body)
    app.add_exception_handler(Exception, _fault)
    return app


def finish(app: FastAPI) -> None:
    """Behind all other routes: no further one below /api, and the page."""

    @app.api_route("/api/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    def unknown(path: str) -> Response:
        return JSONResponse({"error": "no such address; see the page's own requests"}, 404)

    app.mount("/", StaticFiles(directory=STATIC, html=True, check_dir=False), name="page")


def make_signs(report: Report, host: str = "127.0.0.1", token: str = "") -> ASGIApp:
    """The application for a report on signs; arguments as for :func:`make`."""
    app = bare()

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return report.run()

    @app.get("/api/signs")
    def signs() -> dict[str, Any]:
        return report.told()

    @app.get("/api/signs/picture")
    def picture(id: str) -> Response:
        return Response(report.picture(id), media_type="image/png")

    @app.post("/api/signs/decide")
    def decide(body: bodies.Decide) -> dict[str, Any]:
        return report.decide(body.id, body.decision)

    @app.post("/api/signs/apply")
    def apply(body: bodies.Empty) -> dict[str, Any]:
        return report.apply()

    finish(app)
    return Guard(app, Rules(host, token, limits.BODY))


def run_routes(app: FastAPI, space: Space) -> None:
    """What needs no model call."""

    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return space.described()

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


CALLS: dict[str, tuple[type[bodies.Body], Callable[[Space, Any], Any]]] = {
    "decode": (bodies.Decode, answers.decode),
    "encode": (bodies.Encode, answers.encode),
    "walk": (bodies.Walk, answers.walk),
    "arithmetic": (bodies.Arithmetic, answers.arithmetic),
    "dimensions": (bodies.Dimensions, answers.dimensions),
    "neighbours": (bodies.Neighbours, answers.neighbours),
    "sample": (bodies.Sample, answers.sample),
    "caption": (bodies.Caption, answers.caption),
    "draw": (bodies.Draw, answers.draw),
    "generate": (bodies.Generate, control.generate),
    "attribute": (bodies.Attribute, control.attribute),
}
"""What the model can be asked for at /api/NAME: what a client sends, and what answers."""


def call_route(app: FastAPI, calls: Calls, name: str) -> None:
    """One of CALLS."""
    body_type, call = CALLS[name]

    async def answer(body: bodies.Body, request: Request, job: JobName = None) -> Response:
        return await calls.answer(request, job, body.passes, lambda: call(calls.space, body))

    answer.__annotations__["body"] = body_type  # FastAPI reads a request by it
    app.post(f"/api/{name}")(answer)


def job_routes(app: FastAPI, jobs: Jobs) -> None:
    """Where calls stand."""

    @app.get("/api/jobs/{name}")
    def status(name: str) -> Response:
        found = jobs.status(name)
        if found is None:
            return JSONResponse({"error": "no such job"}, 404)
        return JSONResponse(found)

    @app.delete("/api/jobs/{name}")
    def cancel(name: str) -> Response:
        if not jobs.cancel(name):
            return JSONResponse({"error": "no such job waits or runs"}, 404)
        return JSONResponse({"state": "cancelled"})


def _numbers(values: Any) -> Response:
    return Response(values.astype("<f4").tobytes(), media_type="application/octet-stream")


def _indices(given: str) -> list[int]:
    """Numbers between commas."""
    parts = given.split(",")
    if len(parts) > limits.LISTED or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise IsthmusError(
            f"indices: expected numbers from 0 between commas, {limits.LISTED} at most"
        )
    return [int(part) for part in parts]


async def _told_error(request: Request, error: Exception) -> Response:
    status = 400
    headers = {}
    if isinstance(error, FullQueue):
        status, headers = 503, {"Retry-After": "5"}
    elif isinstance(error, CancelledJob | NameTaken):
        status = 409
    return JSONResponse({"error": str(error)}, status, headers)


async def _http_error(request: Request, error: Any) -> Response:
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _wrong_body(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a request, in one line."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return JSONResponse({"error": "request: expected JSON, got something else"}, 422)
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    got = "" if first["type"] == "missing" else f", got {_short(first.get('input'))}"
    return JSONResponse({"error": f"{where or 'request'}: {first['msg']}{got}"}, 422)


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "…"


async def _fault(request: Request, error: Exception) -> Response:
    """Something that nobody thought of; the traceback goes to the terminal."""
    return JSONResponse({"error": "the server failed; its terminal says more"}, 500)
