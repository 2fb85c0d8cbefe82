"""The proxy does to requests what it says, and the same address serves again afterwards."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from faults.proxy import Proxy


class Echo(BaseHTTPRequestHandler):
    """Answers with method, path and body, and keeps what it has seen."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"{self.command} {self.path} {body.decode()}")
        content = self.seen[-1].encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Kept", "yes")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def seen() -> list[str]:
    """What reached the server behind the proxy."""
    return []


@pytest.fixture
def proxy(seen: list[str]) -> Iterator[Proxy]:
    handler = type("EchoHere", (Echo,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with Proxy(f"http://127.0.0.1:{server.server_port}") as proxy:
                yield proxy
        finally:
            server.shutdown()
            thread.join()


def connect(proxy: Proxy, timeout: float = 5) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(proxy.address.removeprefix("http://"), timeout=timeout)


def ask(proxy: Proxy, text: str = "", timeout: float = 5) -> tuple[int, str]:
    connection = connect(proxy, timeout)
    try:
        connection.request("POST", "/echo", text.encode())
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_requests_pass_with_method_body_status_and_headers(proxy: Proxy):
    connection = connect(proxy)
    connection.request("POST", "/a?b=c%20d", "body")
    reply = connection.getresponse()
    assert (reply.status, reply.getheader("X-Kept"), reply.read()) == (201, "yes", b"POST /a?b=c%20d body")
    connection.request("GET", "/again")  # the connection is kept
    assert connection.getresponse().read() == b"GET /again "
    connection.close()
    assert proxy.outcomes == Counter(passed=2)
    assert proxy.paths == Counter(a=1, again=1)


def test_a_chunked_body_passes_whole(proxy: Proxy):
    connection = connect(proxy)
    connection.request("POST", "/c", iter([b"first ", b"second"]), encode_chunked=True)
    assert connection.getresponse().read() == b"POST /c first second"
    connection.close()


def test_delay(proxy: Proxy):
    proxy.delays(0.5)
    begin = time.monotonic()
    assert ask(proxy, "late") == (201, "POST /echo late")
    assert 0.5 <= time.monotonic() - begin < 2
    assert proxy.outcomes == Counter(delayed=1)


def test_refuse_and_back_on_the_same_address(proxy: Proxy, seen: list[str]):
    kept = connect(proxy)
    kept.request("GET", "/")
    kept.getresponse().read()
    proxy.refuses()
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    kept.auto_open = False
    with pytest.raises((OSError, http.client.HTTPException)):  # a kept connection is cut as well
        kept.request("GET", "/")
        kept.getresponse()
    kept.close()
    assert len(seen) == 1
    proxy.passes()
    assert ask(proxy, "back") == (201, "POST /echo back")


def test_drop(proxy: Proxy, seen: list[str]):
    proxy.drops()
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(proxy)
    assert seen == []
    assert proxy.outcomes == Counter(dropped=1)


def test_hang_lasts_until_the_next_change(proxy: Proxy, seen: list[str]):
    proxy.hangs()
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=0.5)
    later = threading.Timer(0.5, proxy.passes)
    later.start()
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(proxy)
    later.join()
    assert seen == []
    assert proxy.outcomes == Counter(hung=2)
    assert ask(proxy)[0] == 201


def test_one_in_ten_answers_500_the_same_ones_for_the_same_seed(proxy: Proxy, seen: list[str]):
    runs = []
    for _ in range(2):
        proxy.answers_500(0.1, seed=3)
        runs.append([ask(proxy)[0] for _ in range(100)])
    assert runs[0] == runs[1]
    assert 3 <= runs[0].count(500) <= 20
    assert len(seen) == proxy.outcomes["passed"] == 200 - proxy.outcomes["answered 500"]


def test_replies_are_lost_after_the_server_has_acted(proxy: Proxy, seen: list[str]):
    proxy.loses_replies()
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(proxy, "done")
    assert seen == ["POST /echo done"]
    assert proxy.outcomes == Counter({"reply lost": 1})


def test_only_the_nth_reply_to_a_path_is_lost(proxy: Proxy, seen: list[str]):
    proxy.loses_replies(only=2, path_part="/echo")
    connection = connect(proxy)
    connection.request("GET", "/other")
    assert connection.getresponse().read()
    connection.close()
    assert ask(proxy, "1")[0] == 201
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        ask(proxy, "2")
    assert ask(proxy, "3")[0] == 201
    assert len(seen) == 4
    assert proxy.requests == 4


def test_a_dead_server_behind_is_a_closed_connection(proxy: Proxy):
    with Proxy("http://127.0.0.1:9") as nobody:
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            ask(nobody)
        assert nobody.outcomes == Counter({"upstream failed": 1})
