"""Whether a store answers at all, asked before anything waits for it."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def is_reachable(uri: str, seconds: float) -> bool:
    """Whether something answers at a tracking URI.

    Args:
        uri: Resolved. One without a host, such as a sqlite file, counts as reachable.
        seconds: To wait at most.
    """
    answer: list[bool] = []
    # In a thread, because no timeout of a socket bounds the look-up of a name, or an answer that comes byte by byte.
    thread = threading.Thread(target=lambda: answer.append(_knock(uri, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return any(answer)


def _knock(uri: str, seconds: float) -> bool:
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https"):
            return _answers(
                f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health", seconds
            )
        if port := parts.port or DATABASE_PORTS.get(parts.scheme.partition("+")[0]):
            socket.create_connection((parts.hostname or "localhost", port), seconds).close()
    except (OSError, ValueError, HTTPException):
        return False
    return True


def _answers(address: str, seconds: float) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=seconds):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500  # "not found" and "who are you?" are answers
