"""A stage's identity: the same for a run at its start and for every dvc.lock that has its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from mlflow_dovetail.dvc_link.records import Link

_VERSION = 1
_HASHES = ("md5", "etag", "checksum")


def input_id(entry: Mapping[str, Any]) -> str:
    """The SHA-256 of what a stage is made from.

    Args:
        entry: Of the stage, as dvc.lock has it: `cmd`, `deps`, `params`, `outs`. Of the outputs only the paths count.

    Returns:
        64 hex digits; they do not depend on the order in which things are listed.
    """
    content = {
        "version": _VERSION,
        "cmd": entry["cmd"],
        "deps": sorted([dep["path"], digest_of(dep)] for dep in entry.get("deps") or ()),
        "params": entry.get("params") or {},
        "outs": sorted(out["path"] for out in entry.get("outs") or ()),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digest_of(item: Mapping[str, Any]) -> str:
    """The hash of a dependency or an output, as dvc.lock has it; empty when it has none."""
    return next((str(item[name]) for name in _HASHES if item.get(name)), "")


def encode_link(link: Link) -> bytes:
    """The bytes of `mlflow_run.json`; their md5 is the link's token, which dvc.lock and the run's tags have."""
    fields = {key: value for key, value in msgspec.to_builtins(link).items() if value}
    return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"


def decode_link(content: bytes) -> Link:
    """The link in the bytes of `mlflow_run.json`.

    Raises:
        ValueError: It is half written, or no link.
    """
    try:
        return msgspec.json.decode(content, type=Link)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def link_token(content: bytes) -> str:
    """The md5 that DVC writes into dvc.lock for these bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
