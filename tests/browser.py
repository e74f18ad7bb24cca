"""A real browser on a real server, for tests of pages."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp


def chromium() -> str:
    """The browser's path: ISTHMUS_CHROMIUM, or a chromium that is installed; else skip."""
    given = os.environ.get("ISTHMUS_CHROMIUM", "")
    found = given or shutil.which("chromium") or ""
    if not Path(found).is_file():
        pytest.skip(
            f"no browser at {found or 'chromium'}: set ISTHMUS_CHROMIUM to the path of a Chromium"
        )
    return found


@contextmanager
def serving(application: ASGIApp) -> Iterator[str]:
    """The application on a free port of this machine; gives its address."""
    settings = uvicorn.Config(
        application, port=0, log_level="warning", access_log=False, ws="none"
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive(), "the server ended before it began"
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(10)


class Watch:
    """What a page must never do: complain on its console, fail, or ask another host."""

    def __init__(self, page: Any) -> None:
        self.faults: list[str] = []
        self.expected = ""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.faults.append(f"request: {request.url}")

    def check(self) -> None:
        """Fail if it did any of them, apart from refusals that the test expects."""
        left = [fault for fault in self.faults if not (self.expected and self.expected in fault)]
        assert left == [], left
