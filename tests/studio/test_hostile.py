"""Hostile input: a clear 4xx in one line, nothing leaks, and the server lives."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tiny_runs import HERE, opened

from isthmus.data.pictures.grid import picture_address
from isthmus.errors import IsthmusError
from isthmus.studio.guard import outer_address
from isthmus.studio.server import make
from isthmus.studio.space import Space

SCRIPT = '<script>alert("x")</script><img src=x onerror=alert(1)>'
TRAVERSAL = ["../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd", "C:\\boot.ini"]
POSTS = [
    "decode",
    "encode",
    "walk",
    "exchange",
    "arithmetic",
    "dimensions",
    "neighbours",
    "sample",
    "generate",
    "attribute",
    "map/tsne",
]


def refused(response, *statuses: int) -> str:
    """The reason, after checking that it is one."""
    assert response.status_code in (statuses or (400, 404, 413, 422)), response.text[:300]
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["x-content-type-options"] == "nosniff"
    answer = response.json()
    assert set(answer) == {"error"}
    assert "\n" not in answer["error"]
    assert 0 < len(answer["error"]) < 400
    assert "Traceback" not in answer["error"]
    return answer["error"]


@pytest.fixture
def client(text):
    client, _ = text
    yield client
    body = {"a": "a", "b": "b c", "steps": 1, "decoding": {"max_new_tokens": 2}}
    answer = client.post("/api/walk", json=body)
    assert answer.status_code == 200  # it lives
    assert len(answer.json()["items"]) == 3


@pytest.mark.parametrize("address", POSTS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b'{"unknown": 1}',
        b"NaN",
        b"1" * 10_000,
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_request(client, address, content):
    headers = {"content-type": "application/json"}
    refused(client.post(f"/api/{address}", content=content, headers=headers))


@pytest.mark.parametrize("address", POSTS)
def test_another_content_type(client, address):
    refused(client.post(f"/api/{address}", data={"a": "b"}))
    refused(client.post(f"/api/{address}", files={"a": b"b"}))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a\0b", "U+0000"),
        ("a\x1b[31mb", "U+001B"),
        ("a\x7f", "U+007F"),
        ("\ud800", "U+D800"),
        ("x" * 2001, "2,001 characters"),
    ],
)
def test_texts_that_no_model_should_read(client, words, reason):
    for address, body in (
        ("encode", {"inputs": [words]}),
        ("walk", {"a": "a", "b": words}),
        ("arithmetic", {"terms": [{"input": words, "weight": 1}] * 2}),
        ("dimensions", {"input": words, "offsets": {}}),
        ("neighbours", {"input": words}),
    ):
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        assert reason in refused(client.post(f"/api/{address}", content=content, headers=headers))


def test_a_megabyte_of_text(client):
    huge = "x" * 1_000_000
    assert "bytes at most" in refused(client.post("/api/encode", json={"inputs": [huge]}), 413)

    def pieces():
        for _ in range(1000):
            yield b"x" * 1000

    headers = {"content-type": "application/json"}
    refused(client.post("/api/encode", content=pieces(), headers=headers), 413)
    refused(client.get("/api/find", params={"text": huge[:50_000]}))


def test_markup_is_text_like_any_other(client):
    answer = client.post("/api/walk", json={"a": SCRIPT, "b": SCRIPT, "steps": 0})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert repr(SCRIPT) in answer.json()["python"]


@pytest.mark.parametrize("evil", [SCRIPT, *TRAVERSAL, "'; DROP TABLE texts; --", "${HOME}", "🙃"])
def test_evil_words_in_every_other_field(client, evil):
    item = {"a": "a", "b": "b"}
    for address, body in (
        ("walk", {**item, "path": evil}),
        ("walk", {**item, "steps": evil}),
        ("walk", {**item, "position": evil}),
        ("walk", {**item, "decoding": evil}),
        ("walk", {**item, "decoding": {"label": evil}}),
        ("walk", {**item, "decoding": {"against": evil, "guidance": 2}}),
        ("walk", {**item, "decoding": {"penalty_mode": evil}}),
        ("walk", {**item, "decoding": {"temperature": evil}}),
        ("walk", {**item, evil: 1}),
        ("walk", {"a": {"index": evil}, "b": "b"}),
        ("decode", {"z": evil}),
        ("decode", {"z": [[evil]]}),
        ("decode", {"place": [0, 0], "projection": evil}),
        ("dimensions", {"input": "a", "offsets": {evil: 1}}),
        ("sample", {"source": evil}),
        ("sample", {"seed": evil}),
        ("generate", {"code": evil}),
        ("generate", {"mixture": {evil: 1}}),
        ("generate", {"against": evil, "guidance": 2}),
        ("generate", {"penalty_mode": evil}),
    ):
        refused(client.post(f"/api/{address}", json=body))
    for address, query in (
        ("map/points", {"projection": evil}),
        ("map/colour", {"by": evil}),
        ("texts", {"indices": evil}),
        ("find", {"text": "a", "limit": evil}),
    ):
        refused(client.get(f"/api/{address}", params=query))
    refused(client.get("/api/jobs/" + evil.replace("/", "%2F")), 404)
    refused(client.delete("/api/jobs/" + evil.replace("/", "%2F")), 404)
    name = evil.encode("ascii", "ignore").decode()
    refused(client.post("/api/walk", json=item, headers={"X-Job": name}))


@pytest.mark.parametrize("path", ["a/../../../../etc/passwd", "%2e%2e/%2e%2e/server.py",
                                  "..%2f__init__.py", "....//server.py", "static/../server.py",
                                  "%00", "app.js%00.html", "~root"])  # fmt: skip
def test_no_way_out_of_the_page_s_folder(client, path):
    for base in ("/", "/api/", "/api/jobs/", "/api/map/"):
        response = client.get(base + path)
        assert response.status_code in (400, 404), base + path
        assert "import" not in response.text


@pytest.mark.parametrize(
    "body",
    [
        {"z": []},
        {"z": [[]]},
        {"z": [[0, 0]]},
        {"z": [[0, 0, 0], [0, 0]]},
        {"z": [[1e30, 0, 0]]},
        {"z": [[0, 0, 0]] * 65},
        {"z": [[True, 0, 0]]},
        {"place": [0]},
        {"place": [0, 1e9]},
        {"place": [0, 0], "z": [[0, 0, 0]]},
        {"place": [0, 0], "projection": "umap"},
        {},
        *({"z": [[0, 0, 0]], "decoding": {name: value}} for name, value in (
            ("temperature", 0), ("temperature", 1e-9), ("top_p", 0), ("top_p", 2), ("top_k", -1),
            ("beams", 0), ("beams", 1000), ("max_new_tokens", 0), ("max_new_tokens", 100_000),
            ("seed", -1), ("seed", 2**80), ("penalty", 0), ("sample", "yes"), ("label", "up"),
            ("guidance", 1e9), ("guidance", 3))),
    ],
    ids=str,
)  # fmt: skip
def test_numbers_out_of_range(client, body):
    refused(client.post("/api/decode", json=body))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_none(client, number):
    headers = {"content-type": "application/json"}
    for body in (b'{"z": [[%s, 0, 0]]}', b'{"place": [%s, 0]}', b'{"z": [[0, 0, 0]], "decoding":'
                 b' {"temperature": %s}}'):  # fmt: skip
        refused(client.post("/api/decode", content=body % number, headers=headers))


def test_too_much_at_once(client):
    for address, body in (
        ("walk", {"a": "a", "b": "b", "steps": 33}),
        ("walk", {"a": "a", "b": "b", "position": 1.5}),
        ("walk", {"a": "a", "b": "b", "path": "sentences", "position": 0.5}),
        ("walk", {"a": "a", "b": "b. " * 33, "path": "sentences"}),
        ("walk", {"a": " ", "b": "b", "path": "sentences"}),
        ("encode", {"inputs": ["a"] * 65}),
        ("encode", {"inputs": []}),
        ("sample", {"count": 65}),
        ("sample", {"count": 0}),
        ("arithmetic", {"terms": [{"input": "a", "weight": 1}]}),
        ("arithmetic", {"terms": [{"input": "a", "weight": 1}] * 7}),
        ("neighbours", {"input": "a", "count": 65}),
        ("neighbours", {"input": "a", "z": [0, 0, 0]}),
        ("dimensions", {"offsets": {"0": 1}}),
        ("dimensions", {"input": "a", "offsets": {"3": 1}}),
        ("dimensions", {"input": "a", "offsets": {"²": 1}}),
        ("encode", {"inputs": [{"index": 90}]}),
        ("encode", {"inputs": [{"index": -1}]}),
    ):
        refused(client.post(f"/api/{address}", json=body))
    for indices in ("", "1,,2", "-1", "90", "1" * 30, ",".join("1" * 501)):
        refused(client.get("/api/texts", params={"indices": indices}))


def test_far_latents_are_decoded(client):
    """No overflow at the bound of what is let in, sampled or not."""
    for sample in (False, True):
        body = {"z": [[1000, -1000, 1000]], "decoding": {"sample": sample, "temperature": 0.01}}
        answer = client.post("/api/decode", json=body)
        assert answer.status_code == 200
        json.loads(answer.text, parse_constant=pytest.fail)


def solid(width: int, height: int, rows: int = 0) -> str:
    """A PNG of one colour that unpacks to so many pixels, as an address."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    pack, row = zlib.compressobj(1), bytes(width + 1)
    packed = b"".join(pack.compress(row) for _ in range(rows or height)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()


def address(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def test_hostile_pictures(clients):
    client, _ = clients("picture")
    whole = picture_address(np.zeros((1, 8, 8), np.uint8))
    file = io.BytesIO()
    Image.new("RGB", (9, 9)).save(file, "TIFF")
    for given, reason in (
        (solid(10_000, 5_000), "16,000,000"),
        (solid(20_000, 20_000, rows=1), "pixels"),
        (whole[:60], "picture: "),
        (whole + "=!", "base64"),
        (address(b"GIF89a"), "not a picture"),
        (address(SCRIPT.encode(), "svg+xml"), "not a picture"),
        (address(file.getvalue(), "tiff"), "not a picture"),
        ("data:text/html,<script>", "expected data:image"),
        ("http://example.org/x.png", "expected data:image"),
        ("file:///etc/passwd", "expected data:image"),
        ("/etc/passwd", "expected data:image"),
        ("", "expected data:image"),
    ):
        assert reason in refused(client.post("/api/encode", json={"inputs": [given]}))
    refused(client.post("/api/encode", content=b"x" * (12 * 1024 * 1024 + 1)), 413)
    assert client.post("/api/encode", json={"inputs": [whole]}).status_code == 200


def test_hostile_words_for_codes(clients):
    client, _ = clients("codes")
    for body in (
        {"prompt": "a\0"},
        {"prompt": "x" * 2001},
        {"detail": "Rating: 5"},
        {"code": "up", "detail": "\x1b"},
        {"code": "UP"},
        {"code": "up", "mixture": {"up": 1}},
        {"mixture": {"up": 0}},
        {"mixture": {"up": -1}},
        {"mixture": {"sideways": 1}},
        {"against": "up"},
    ):
        refused(client.post("/api/generate", json=body))
    for text in ("", "\0", "x" * 2001):
        refused(client.post("/api/attribute", json={"text": text}))
    long = client.post("/api/generate", json={"prompt": "a " * 1000, "count": 1})
    assert long.status_code in (200, 400)


def test_another_host_or_origin_is_refused(client):
    body = {"a": "a", "b": "b", "steps": 0}
    for host in ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""):
        assert "Host" in refused(client.get("/api/run", headers={"Host": host}), 400)
        refused(client.get("/", headers={"Host": host}), 400)
    for host in ("localhost:8765", "127.0.0.1", "[::1]:8765", "LOCALHOST"):
        assert client.get("/api/run", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://localhost:8765"):
        refused(client.post("/api/walk", json=body, headers={"Origin": origin}), 403)
        refused(client.delete("/api/jobs/a", headers={"Origin": origin}), 403)
    crossed = {"Sec-Fetch-Site": "cross-site"}
    refused(client.post("/api/walk", json=body, headers=crossed), 403)
    own = client.post("/api/walk", json=body, headers={"Origin": HERE})
    assert own.status_code == 200


def test_headers_of_every_answer(client):
    for response in (
        client.get("/api/run"),
        client.get("/api/none"),
        client.get("/none.js"),
        client.post("/api/walk", content=b"{"),
        client.get("/api/run", headers={"Host": "evil.example"}),
        client.options("/api/walk"),
    ):
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in response.headers
    assert client.get("/api/run").headers["cache-control"] == "no-store"
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404
    assert client.put("/api/run", json={}).status_code in (404, 405)


def test_a_token_is_needed_where_one_is_set(runs):
    space = Space(runs["text"])
    with opened(space, host="0.0.0.0", token="s3cret") as client:
        for path in ("/api/run", "/", "/?token=", "/?token=wrong", "/api/run?token=s3cret"):
            refused(client.get(path, follow_redirects=False), 401)
        refused(client.post("/api/decode", json={"z": [[0, 0, 0]]}), 401)
        refused(client.get("/api/run", headers={"Cookie": "isthmus_studio=wrong"}), 401)
        refused(client.get("/api/run", headers={"Cookie": b"a\x00=;;=\xff"}), 401)
        bearer = {"Authorization": "Bearer s3cret"}
        assert client.get("/api/run", headers=bearer).status_code == 200
        visit = client.get("/?token=s3cret", follow_redirects=False)
        assert (visit.status_code, visit.headers["location"]) == (303, "./")
        cookie = visit.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.get("/api/run").status_code == 200  # with the cookie
        named = {"Host": "machine.lan:8765"}
        assert client.get("/api/run", headers=named).status_code == 200
    with TestClient(make(space, token="s3cret"), base_url=HERE) as client:
        refused(client.get("/api/run"), 401)


OUTER = "https://lab.example:8443/studio"


@pytest.mark.parametrize("keeps_host", [True, False])
@pytest.mark.parametrize("keeps_path", [True, False])
def test_a_proxy_with_an_address_serves_the_studio_and_no_other_site(runs, keeps_host, keeps_path):
    body = {"a": "a", "b": "b", "steps": 0}
    host = {"Host": "lab.example:8443" if keeps_host else "127.0.0.1:8765"}
    path = "/studio" if keeps_path else ""
    with opened(Space(runs["text"]), token="s3cret", address=OUTER) as client:
        refused(client.post(f"{path}/api/walk", json=body, headers=host), 401)
        visit = client.get(f"{path}/?token=s3cret", headers=host, follow_redirects=False)
        assert (visit.status_code, visit.headers["location"]) == (303, "./")
        assert "Secure" in visit.headers["set-cookie"]
        assert "Path" not in visit.headers["set-cookie"]
        known = host | {"Cookie": "isthmus_studio=s3cret", "Sec-Fetch-Site": "same-origin"}
        assert "<html" in client.get(f"{path}/", headers=known).text
        assert client.get(f"{path}/app.js", headers=known).status_code == 200
        assert client.get(f"{path}/api/run", headers=known).headers["cache-control"] == "no-store"
        own = known | {"Origin": "https://lab.example:8443"}
        assert client.post(f"{path}/api/walk", json=body, headers=own).status_code == 200
        for origin in (
            *("https://evil.example", "https://lab.example", "http://lab.example:8443", "null"),
            *("https://lab.example:8443.evil.example", "https://evil.lab.example:8443"),
        ):
            alien = known | {"Origin": origin}
            refused(client.post(f"{path}/api/walk", json=body, headers=alien), 403)
        crossed = own | {"Sec-Fetch-Site": "cross-site"}
        refused(client.post(f"{path}/api/walk", json=body, headers=crossed), 403)
        for name in ("evil.example", "lab.example", "lab.example:8443.evil.example", ""):
            refused(client.get(f"{path}/api/run", headers=known | {"Host": name}), 400)


@pytest.mark.parametrize(
    "address",
    ["lab.example", "ftp://lab.example", "https://", "https://a@b", "https://a/?b", "https://a b"],
)
def test_an_address_that_no_visitor_opens(address):
    with pytest.raises(IsthmusError, match="expected what visitors open"):
        outer_address(address)


def test_a_run_without_doors_says_so(client):
    assert "captions" in refused(client.post("/api/caption", json={"picture": "data:"}), 400)
    assert "captions" in refused(client.post("/api/draw", json={"text": "a"}), 400)
