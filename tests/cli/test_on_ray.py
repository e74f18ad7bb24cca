"""``--on ray:ADDRESS`` where there is no cluster."""

import socket

import pytest

from isthmus.commands.on_ray import cluster
from isthmus.errors import IsthmusError


def test_an_address_where_nothing_answers_is_one_line_at_once():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'isthmus[scale]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again, so that nobody listens there
    refused = pytest.raises(IsthmusError, match=f"ray:127.0.0.1:{port}: no cluster .*HOST:PORT")
    with refused, cluster(f"ray:127.0.0.1:{port}", lambda: pytest.fail("nothing to load for")):
        pass
