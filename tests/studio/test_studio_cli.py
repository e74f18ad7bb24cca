"""The verb: one line where something is missing, an address where all is well."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import redirect_stderr

import pytest

from isthmus.cli import main


def refusal(*words: str) -> str:
    """What the command says on standard error when it fails."""
    err = io.StringIO()
    with redirect_stderr(err):
        assert main(["studio", *words, "--no-browser"]) == 1
    lines = err.getvalue().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_without_the_extra_it_says_how_to_install_it(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert refusal(runs["text"]).endswith("run: pip install 'isthmus[studio]'")


def test_unknown_runs_data_ports_and_tokens(runs, tmp_path):
    assert "no such run directory" in refusal(str(tmp_path / "none"))
    assert "not a run directory" in refusal(str(tmp_path))
    assert "does not exist" in refusal(runs["text"], "--data", str(tmp_path / "none.txt"))
    assert "0 to 65535" in refusal(runs["text"], "--port", "70000")
    assert "letters, digits" in refusal(runs["text"], "--token", "a b;")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refusal(runs["text"], "--port", port)


def test_it_serves_elsewhere_with_a_token_and_ends(runs):
    words = ["studio", runs["text"], "--no-browser", "--port", "0", "--host", "0.0.0.0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "isthmus", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process.stderr:
        try:
            line = process.stderr.readline()
            found = re.search(r"http://localhost:(\d+)/\?token=(\S{16,}) ", line)
            assert found, line
            request = urllib.request.Request(f"http://127.0.0.1:{found[1]}/api/run")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=20)
            with refused.value:
                assert refused.value.code == 401
            request.add_header("Authorization", f"Bearer {found[2]}")
            with urllib.request.urlopen(request, timeout=20) as response:
                assert response.status == 200
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stderr.read()
            process.wait(20)
    assert "Traceback" not in rest
