"""What stands in a journal: the stored format of each entry, version 1: MessagePack arrays that begin with the kind.

Times are milliseconds since the epoch, UTC, taken when the entry was made. A kind or a field that has been released is
never changed; a new field goes to the end, with a default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from mlflow_dovetail.records import RunStatus
from mlflow_dovetail.run_folder import first_payload, last_payload

AttemptKind = Literal["create", "resume", "append", "system"]


class Start(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """A writer has begun.

    Attributes:
        kind: "create" for a new run; "resume" goes on with a training, from a step that may lie behind the last;
            "append" adds to a run without being its training; "system" is the recorder, about the machine.
        attempt: 1 for the training that created the run, one more each time it is resumed.
    """

    time_ms: int
    kind: AttemptKind
    attempt: int


class Metrics(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """Values of one step, under the names that the user gave."""

    time_ms: int
    step: int
    values: dict[str, float]


class Params(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """Params, as text."""

    time_ms: int
    values: dict[str, str]


class Tags(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """Tags to set or replace."""

    time_ms: int
    values: dict[str, str]


class Input(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """A dataset that the run has read: `records.DatasetInput`."""

    time_ms: int
    name: str
    digest: str
    source: str
    context: str
    source_type: str


class File(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """A file to keep as an artifact; a later one of the same path replaces it.

    Attributes:
        path: Among the run's artifacts, its name included.
        payload: The copy's name in the folder `artifacts/`.
        size: In bytes, when it was logged.
        sha256: Of the copy; empty for one that the recorder makes later, from a link (`staging`).
    """

    time_ms: int
    path: str
    payload: str
    size: int
    sha256: str


class Monitor(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """Whether less or more of a metric is better."""

    time_ms: int
    key: str
    mode: Literal["min", "max"]


class Trouble(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """Something that could not be recorded, and how often since the last such entry."""

    time_ms: int
    cause: str
    count: int


class End(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """The writer says how the run ended. It may go on after that, as a test after a fit does."""

    time_ms: int
    status: RunStatus
    cause: str


class Close(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """The writer writes no more."""

    time_ms: int


Entry = Start | Metrics | Params | Tags | Input | File | Monitor | Trouble | End | Close

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry | tuple[Any, ...]) -> bytes:
    """The record of an entry, or of the tuple that one stands for; what is no Unicode in a text is escaped."""
    try:
        return _encoder.encode(entry)
    except UnicodeEncodeError:  # a file name of undecodable bytes, for instance
        return _encoder.encode(_as_unicode(msgspec.to_builtins(entry)))


def as_unicode(text: str) -> str:
    """A text that every store can take: lone surrogates become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _as_unicode(value: object) -> object:
    if isinstance(value, str):
        return as_unicode(value)
    if isinstance(value, dict):
        return {as_unicode(key): _as_unicode(one) for key, one in value.items()}
    return [_as_unicode(one) for one in value] if isinstance(value, (list, tuple)) else value


def is_closed(path: Path) -> bool:
    """Whether the last entry of a segment says that no more will come."""
    payload = last_payload(path)
    try:
        return payload is not None and isinstance(decode(payload), Close)
    except msgspec.DecodeError:
        return False


def kind_of(path: Path) -> AttemptKind | None:
    """What a segment's writer is to the run; None of one that has written nothing yet, or whose begin is damaged."""
    payload = first_payload(path)
    try:
        first = decode(payload) if payload is not None else None
    except msgspec.DecodeError:
        return None
    return first.kind if isinstance(first, Start) else None


def decode(payload: bytes) -> Entry:
    """The entry of a record.

    Raises:
        msgspec.DecodeError: It is of no kind that this version knows.
    """
    return _decoder.decode(payload)
