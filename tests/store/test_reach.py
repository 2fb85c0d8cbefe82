"""Asking whether a store answers takes no longer than is allowed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mlflow_dovetail.store import is_reachable


def answering(status: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        asked: list[str]

        def do_GET(self) -> None:
            type(self).asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    Handler.asked = []
    return Handler


@pytest.fixture
def serve() -> Iterator[object]:
    servers: list[HTTPServer] = []

    def start(handler: type[BaseHTTPRequestHandler]) -> int:
        server = HTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "reachable"), [(200, True), (401, True), (404, True), (500, False), (502, False), (503, False)]
)
def test_an_answer_is_one_unless_it_says_that_the_server_is_ill(serve, status: int, reachable: bool):
    handler = answering(status)
    port = serve(handler)
    assert is_reachable(f"http://127.0.0.1:{port}", 5) is reachable
    assert is_reachable(f"http://me:pass@127.0.0.1:{port}/some/prefix/", 5) is reachable
    assert handler.asked == ["/health", "/some/prefix/health"]


def test_a_real_server_is_reachable(server: str):
    assert is_reachable(server, 10)


def test_a_port_where_nobody_listens_is_not_reachable():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for scheme in ("http", "https", "postgresql", "mysql+pymysql"):
        assert not is_reachable(f"{scheme}://127.0.0.1:{port}/x", 2)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(scheme: str):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        assert not is_reachable(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", 0.5)
        assert time.monotonic() - begun < 3


def test_a_server_that_drips_its_answer_is_not_waited_for():
    """Each byte in time, the whole of it never."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not stop.wait(0.1):
                    try:
                        connection.send(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        begun = time.monotonic()
        assert not is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}", 0.5)
        taken = time.monotonic() - begun
        stop.set()
        thread.join(5)
        assert taken < 3


def test_a_server_that_speaks_something_else_is_not_reachable():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.0\r\n")

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        assert not is_reachable(f"http://127.0.0.1:{server.getsockname()[1]}", 2)
        thread.join(5)


def test_a_database_server_that_listens_is_reachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert is_reachable(f"postgresql+psycopg2://me:pass@127.0.0.1:{server.getsockname()[1]}/runs", 2)


@pytest.mark.parametrize("uri", ["sqlite:////no/such/file.db", "databricks", "file:///tmp/x"])
def test_what_has_no_host_counts_as_reachable(uri: str):
    assert is_reachable(uri, 1)


@pytest.mark.parametrize("uri", ["http://", "http://no such host", "http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_not_reachable(uri: str):
    assert not is_reachable(uri, 1)
