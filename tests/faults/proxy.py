"""A reverse proxy that hurts: before a real server it delays, drops, hangs, answers 500, or loses replies."""

from __future__ import annotations

import http.client
import random
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Kind = Literal["pass", "delay", "refuse", "drop", "hang", "error500", "lose_reply"]

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"})
_UPSTREAM_SECONDS = 60


@dataclass
class _Fault:
    """What happens to requests from now on, until `over` is set by the next one."""

    kind: Kind = "pass"
    seconds: float = 0.0
    share: float = 1.0
    only: int | None = None
    path_part: str = ""
    chance: random.Random = field(default_factory=random.Random)
    over: threading.Event = field(default_factory=threading.Event)
    seen: int = 0

    def strikes(self, path: str) -> bool:
        """Whether this request is one of those that are hurt. Called once a request, under the proxy's lock."""
        if self.path_part not in path:
            return False
        self.seen += 1
        if self.only is not None:
            return self.seen == self.only
        return self.share >= 1.0 or self.chance.random() < self.share


class _Reply(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    content: bytes


class Proxy:
    """A reverse proxy on loopback whose behaviour a test changes while it runs. A context manager.

    Keep-alive connections of clients are cut when the proxy begins to refuse or to drop, as those of a dead server are.

    Args:
        upstream: The server's address, such as http://127.0.0.1:5000.

    Attributes:
        address: Where clients find the proxy. It stays the same over every change.
        outcomes: How many requests (for "drop": connections) went which way; the keys are "passed", "delayed",
            "dropped", "hung", "answered 500", "reply lost" and "upstream failed".
        paths: How many requests there were by the last part of their path, as "log-batch".
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._fault = _Fault()
        self._connections: set[socket.socket] = set()
        self._listener: _Listener | None = _listen_somewhere(self)
        self._port = self._listener.server_port
        self.address = f"http://127.0.0.1:{self._port}"
        self.outcomes: Counter[str] = Counter()
        self.paths: Counter[str] = Counter()

    def passes(self) -> None:
        self._become(_Fault())

    def delays(self, seconds: float, *, path_part: str = "") -> None:
        """Hold each request whose path contains `path_part` for so long before the server gets it."""
        self._become(_Fault("delay", seconds=seconds, path_part=path_part))

    def refuses(self) -> None:
        """Nobody listens: connections are refused."""
        self._become(_Fault("refuse"))

    def drops(self) -> None:
        """Accept each connection and close it at once."""
        self._become(_Fault("drop"))

    def hangs(self) -> None:
        """Read each request and never answer; the connections end with the next change."""
        self._become(_Fault("hang"))

    def answers_500(self, share: float = 1.0, *, path_part: str = "", seed: int = 0) -> None:
        """Answer a share of the requests whose path contains `path_part` with 500; the server does not see these."""
        self._become(_Fault("error500", share=share, path_part=path_part, chance=random.Random(seed)))

    def loses_replies(self, share: float = 1.0, *, only: int | None = None, path_part: str = "", seed: int = 0) -> None:
        """Let the server do what is asked, and close the connection instead of passing its answer on.

        Args:
            share: How many of the replies, 0 to 1.
            only: Just the n-th request from now on, counted from 1.
            path_part: Count and hurt only requests whose path contains this.
        """
        self._become(_Fault("lose_reply", share=share, only=only, path_part=path_part, chance=random.Random(seed)))

    @property
    def requests(self) -> int:
        """How many requests and dropped connections there have been."""
        return sum(self.outcomes.values())

    def close(self) -> None:
        self._become(_Fault("refuse"))

    def __enter__(self) -> Proxy:
        self.passes()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _become(self, fault: _Fault) -> None:
        with self._lock:
            before, self._fault = self._fault, fault
        before.over.set()
        if fault.kind == "refuse":
            self._stop_listening()
        if fault.kind in ("refuse", "drop"):
            self._cut_connections()
        if fault.kind != "refuse" and self._listener is None:
            self._listener = _listen_again(self._port, self)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def _cut_connections(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its client was faster

    def opened(self, connection: socket.socket) -> bool:
        """Take note of a connection; False when it is to be closed at once."""
        with self._lock:
            dropped = self._fault.kind == "drop"
            if dropped:
                self.outcomes["dropped"] += 1
            else:
                self._connections.add(connection)
            return not dropped

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def fault_for(self, path: str) -> _Fault:
        """What happens to this request."""
        with self._lock:
            self.paths[path.partition("?")[0].rpartition("/")[2]] += 1
            return self._fault if self._fault.strikes(path) else _Fault()

    def count(self, outcome: str) -> None:
        with self._lock:
            self.outcomes[outcome] += 1

    def ask_upstream(self, method: str, path: str, headers: dict[str, str], body: bytes) -> _Reply:
        connection = http.client.HTTPConnection(self._upstream, timeout=_UPSTREAM_SECONDS)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return _Reply(reply.status, reply.getheaders(), reply.read())
        finally:
            connection.close()


class _Listener(ThreadingHTTPServer):
    """The listening socket, in a thread of its own, and a thread a connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", port), _Exchange)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # clients go away: that is what faults are for
            super().handle_error(request, client_address)


class _Exchange(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def handle(self) -> None:
        proxy = self.server.proxy
        if proxy.opened(self.connection):
            try:
                super().handle()
            finally:
                proxy.closed(self.connection)

    def do_POST(self) -> None:
        proxy, body = self.server.proxy, self._body()
        fault = proxy.fault_for(self.path)
        if fault.kind in ("hang", "drop", "refuse"):
            proxy.count("hung" if fault.kind == "hang" else "dropped")
            fault.over.wait(3600 if fault.kind == "hang" else 0)
            self.close_connection = True
        elif fault.kind == "error500":
            proxy.count("answered 500")
            self._answer(_Reply(500, [("Content-Type", "text/plain")], b"Internal Server Error"))
        else:
            if fault.kind == "delay":
                time.sleep(fault.seconds)
            self._forward(fault, body)

    do_GET = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_POST

    def _forward(self, fault: _Fault, body: bytes) -> None:
        proxy = self.server.proxy
        kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            reply = proxy.ask_upstream(self.command, self.path, kept, body)
        except (OSError, http.client.HTTPException):
            proxy.count("upstream failed")
            self.close_connection = True
            return
        if fault.kind == "lose_reply":
            proxy.count("reply lost")
            self.close_connection = True
            return
        proxy.count("delayed" if fault.kind == "delay" else "passed")
        self._answer(reply)

    def _answer(self, reply: _Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.content)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _listen_somewhere(proxy: Proxy) -> _Listener:
    """On a port below those that the system gives to clients: while the proxy refuses, nobody takes it by chance."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with suppress(OSError):
            return _Listener(port, proxy)
    raise OSError("no free port between 20,000 and 32,000")


def _listen_again(port: int, proxy: Proxy) -> _Listener:
    """On the same port as before."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return _Listener(port, proxy)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
