"""What guards the studio from the network: checks on host, origin, token and size."""

from __future__ import annotations

import hmac
import ipaddress
import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final, final
from urllib.parse import parse_qs, urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.errors import IsthmusError

COOKIE: Final = "isthmus_studio"
SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
READING: Final = ("GET", "HEAD")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def outer_address(given: str) -> str:
    """The address at which a proxy serves the studio, without a slash at its end.

    Raises:
        IsthmusError: It is not of the form https://host/path.
    """
    parts = urlsplit(given)
    plain = parts.hostname and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in ("http", "https") or not plain or re.search(r"[\s;,\\]", given):
        raise IsthmusError(
            f"--address: got {given!r}, expected what visitors open, https://host or "
            "https://host/path"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


@final
@dataclass(frozen=True)
class Rules:
    """What is let through.

    Attributes:
        host: The address that the server is bound to.
        token: The secret that clients must present; none if empty.
        body: The most bytes of a request.
        address: What :func:`outer_address` gives, where a proxy serves the studio; else empty.
    """

    host: str
    token: str
    body: int
    address: str = ""

    @property
    def prefix(self) -> str:
        """The path at which a proxy serves the studio; empty for its root."""
        return urlsplit(self.address).path

    def knows_host(self, name: str) -> bool:
        """Whether a Host header names this server.

        On loopback only its own names do: a page of another site whose name was made to resolve
        to this machine (DNS rebinding) sends that name. Elsewhere the token keeps such a page out.
        """
        if not is_loopback(self.host) or self._is_outer(name):
            return True
        bare = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
        return bare.lower() in (*LOOPBACK_NAMES, self.host)

    def _is_outer(self, name: str) -> bool:
        return bool(self.address) and name.lower() == urlsplit(self.address).netloc

    def knows_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this server sent a request: of the outer address, or of its Host.

        A proxy may keep the Host of the outer address or put the inner one in its place.
        """
        parts = urlsplit(self.address)
        if self.address and origin.lower() == f"{parts.scheme}://{parts.netloc}":
            return True
        return not self._is_outer(host) and urlsplit(origin).netloc == host

    def knows_token(self, given: str) -> bool:
        """Whether it is the token, compared in constant time."""
        return hmac.compare_digest(given.encode(), self.token.encode())


@final
class Guard:
    """ASGI middleware that applies :class:`Rules` and sets the security headers."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope = self._without_prefix(scope)
        api = scope["path"].startswith("/api")

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.update(SECURITY)
                answer["Cache-Control"] = "no-store" if api else "no-cache"
            await send(message)

        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, secured)
        elif self.rules.token and (cookie := self._first_visit(scope)):
            # Relative, because a proxy may serve the page at a path of its own.
            visit = Response(status_code=303, headers={"location": "./", "set-cookie": cookie})
            await visit(scope, receive, secured)
        elif self.rules.token and not self._is_known(headers):
            unknown = _error(401, "a token is needed: open the address that the terminal shows")
            await unknown(scope, receive, secured)
        else:
            await self.app(scope, self._bounded(receive), secured)

    def _without_prefix(self, scope: Scope) -> Scope:
        """The request as it is below the prefix, where a proxy leaves it on."""
        prefix, path = self.rules.prefix, scope["path"]
        if not prefix or not path.startswith(f"{prefix}/"):
            return scope
        return {**scope, "path": path.removeprefix(prefix)}

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that is refused by its headers; None for others."""
        host = headers.get("host", "")
        if not self.rules.knows_host(host):
            return _error(400, f"Host: got {host[:80]!r}, which is not this server's name")
        if scope["method"] not in READING:
            origin = headers.get("origin")
            if origin is not None and not self.rules.knows_origin(origin, host):
                return _error(403, "Origin: the request comes from another site's page")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return _error(403, "Sec-Fetch-Site: the request comes from another site's page")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.rules.body:
            return _error(413, self._too_large())
        return None

    def _too_large(self) -> str:
        return f"request: expected {self.rules.body:,} bytes at most; send less at once"

    def _first_visit(self, scope: Scope) -> str | None:
        """The cookie for a visit whose address has the token; None for others."""
        query = scope["query_string"].decode("latin-1")
        given = parse_qs(query).get("token", [""])[0]
        if scope["path"] != "/" or not self.rules.knows_token(given):
            return None
        secure = "; Secure" if self.rules.address.startswith("https:") else ""
        # Without a Path it holds for the folder of the page, whatever a proxy calls that.
        return f"{COOKIE}={self.rules.token}; HttpOnly; SameSite=Strict{secure}"

    def _is_known(self, headers: Headers) -> bool:
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if bearer and self.rules.knows_token(bearer):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self.rules.knows_token(cookie.value)

    def _bounded(self, receive: Receive) -> Receive:
        """Receive the body, and raise once it is too large, whatever its headers say."""
        left = self.rules.body

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large())
            return message

        return bounded


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
