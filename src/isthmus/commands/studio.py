"""``isthmus studio``."""

from __future__ import annotations

import re
import secrets
import socket
import sys
import webbrowser
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import tyro

from isthmus.commands.common import Precision, Verifying, local_run, quiet, warn_of_bf16
from isthmus.errors import IsthmusError


@dataclass(frozen=True)
class Studio(Verifying):
    """Explore a latent space in the browser.

    Serves a page until Ctrl-C: a map of a corpus, interpolations, arithmetic, dimensions,
    neighbours, samples, control codes. For the folder of a signs report, the page shows the
    report's candidates and records your decisions.
    """

    run_directory: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")] = ""
    """A run directory, owner/name on the Hugging Face hub, or the folder of a signs report.
    By default the run that comes with Isthmus."""
    data: str = ""
    """The data of the map, in any form that train reads (at most 200,000 examples).
    By default the built-in corpus, if the run was trained on one."""
    embeddings: str = ""
    """The vectors of --data (a run that was trained with --embeddings)."""
    objective: str = ""
    """MODULE:FUNCTION or FILE.py:FUNCTION as for isthmus optimise: adds a panel that searches for
    the texts of which it says the most."""
    host: str = "127.0.0.1"
    """The address to listen on. If other machines can reach it, visitors need a token."""
    port: int = 8765
    """The port; 0 for any free one."""
    token: str = ""
    """The password that visitors need.
    By default a random one if other machines can reach the page, else none."""
    address: str = ""
    """The address that visitors open, if a proxy serves the studio: https://host/path.
    Then visitors need a token."""
    precision: Precision = "float32"
    """Precision of the decoder of texts.
    bf16 is faster where the processor has it, takes half the memory, and rounds."""
    browser: bool = True
    """Open the page in the browser."""

    def with_local_runs(self) -> Self:
        return replace(self, run_directory=self.run_directory and local_run(self.run_directory))

    def run(self) -> None:
        try:
            import fastapi  # noqa: F401
            import uvicorn
        except ImportError:
            raise IsthmusError(
                "studio: needs FastAPI and uvicorn, which are not installed; "
                "run: pip install 'isthmus[studio]'"
            ) from None
        quiet()
        from isthmus.studio import limits
        from isthmus.studio.guard import is_loopback, outer_address

        outer = outer_address(self.address) if self.address else ""
        token = self.token
        if not re.fullmatch("[A-Za-z0-9_-]*", token):
            raise IsthmusError("--token: expected letters, digits, dashes and underscores")
        if not token and (outer or not is_loopback(self.host)):
            token = secrets.token_urlsafe(16)
        with _listen(self.host, self.port) as listening:
            application = self._application(token, outer)
            listening.listen(limits.QUEUE)  # requests wait until the server has started
            inner = _address(self.host, listening.getsockname()[1])
            address = f"{outer or inner}/" + (f"?token={token}" if token else "")
            if outer:
                print(f"studio: listening on {inner} for the proxy", file=sys.stderr)
            print(f"studio: {address}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
            if self.browser:
                webbrowser.open(address)
            settings = uvicorn.Config(
                application,
                log_level="warning",
                ws="none",
                access_log=False,  # it would contain the token
                server_header=False,
                timeout_graceful_shutdown=2,
            )
            uvicorn.Server(settings).run([listening])

    def _application(self, token: str, address: str) -> Any:
        from isthmus.studio import server
        from isthmus.studio.signs import Report, is_report

        if self.run_directory and is_report(self.run_directory):
            if self.data:
                raise IsthmusError("--data: a signs report has its own pictures; leave --data out")
            return server.make_signs(Report(self.run_directory), self.host, token, address)
        from isthmus.studio.space import Space

        space = Space(self.run_directory, self.data, self.verify, self.embeddings)
        if self.objective:
            from isthmus.commands.optimise import imported
            from isthmus.explore.objectives import Objective

            space.objective = Objective(imported(self.objective))
            space.objective_name = self.objective
        if self.precision == "bf16":
            from isthmus.models.text_model import hold_decoder

            hold_decoder(space.model)
            warn_of_bf16(space.model)
        if space.corpus is not None:
            for line in [space.corpus.report(), *space.corpus.warnings]:
                print(line, file=sys.stderr)
        return server.make(space, self.host, token, address)


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to that address."""
    if not 0 <= port < 65536:
        raise IsthmusError(f"port: got {port}, expected 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio turns Nagle's algorithm off only if the protocol is named; it costs 40 ms.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise IsthmusError(
            f"studio: cannot listen on {host} port {port} ({error.strerror or error}); give "
            "another with --port, or --port 0 for any"
        ) from None
    return listening


def _address(host: str, port: int) -> str:
    """The URL of a server on this machine."""
    shown = "localhost" if host in ("0.0.0.0", "::") else host
    if ":" in shown:
        shown = f"[{shown}]"
    return f"http://{shown}:{port}"
