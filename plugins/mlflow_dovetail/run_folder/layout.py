"""Where what lies in a run folder, and writing it so that a reader never sees a half."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.errors import RunFolderInvalid
from mlflow_dovetail.records import RunStatus
from mlflow_dovetail.run_folder.lease import Lease, Life

log = logging.getLogger("mlflow_dovetail")

VERSION = 1
# So that a full disk still has room for how the run ended.
_RESERVE_BYTES = 64 << 10
# The last room on a disk is for the training's own values, and for how the run ended.
_SPARE_BYTES = 256 << 10
_TOKEN = re.compile(r"[0-9a-f]{32}")
_Record = TypeVar("_Record", bound=msgspec.Struct)


class Description(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run is: `run.json`, written once when the folder is made.

    Attributes:
        version: Of the folder's format.
        token: The run's name in every store, 32 hex digits.
        tracking_uri: Where it was meant to go, without credentials.
        experiment: In which it is created; None for a run that was there already.
        artifact_location: Of an experiment that is made for it.
        run_id: Of a run that was there already.
        name: Of the run.
        tags: That it is created with.
        start_time_ms: Since the epoch, UTC.
        made_by: The version of Dovetail.
    """

    version: int
    token: str
    tracking_uri: str
    start_time_ms: int
    experiment: str | None = None
    artifact_location: str | None = None
    run_id: str | None = None
    name: str | None = None
    tags: Mapping[str, str] = {}
    made_by: str = ""


class Ending(msgspec.Struct, frozen=True):
    """How a writer ended that could not say so itself: found out by the recorder or by `dovetail sync`."""

    status: RunStatus
    cause: str
    time_ms: int


class RunFolder:
    """One run's folder.

    Args:
        path: Of the folder; its name is the run's token.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = path.name
        self.journal = path / "journal"
        self.leases = path / "lease"
        self.artifacts = path / "artifacts"
        self.captured = path / "captured"
        self.said_tags = path / "said"
        self.speeds = path / "speeds"
        self.tables = path / "tables"
        self.code = path / "code"
        self.sent = path / "sent"
        self.console = path / "console.log"
        self.recorder_log = path / "recorder.log"
        self.heartbeat = path / "heartbeat"
        self.reserve = path / "reserve"

    @classmethod
    def make(cls, root: Path, description: Description) -> RunFolder:
        """Make the folder `<root>/.dovetail/runs/<token>`, or take the one that is there.

        Raises:
            RunFolderInvalid: It cannot be written.
        """
        folder = cls(root / names.DOVETAIL_FOLDER / "runs" / description.token)
        try:
            for part in (folder.journal, folder.leases, folder.artifacts, folder.captured, folder.sent):
                part.mkdir(parents=True, exist_ok=True)
            folder.code.mkdir(mode=0o700, exist_ok=True)  # it may hold secrets
            if not folder.reserve.exists():
                folder.reserve.write_bytes(os.urandom(_RESERVE_BYTES))  # not zeros, which some disks do not keep
            ignore = root / names.DOVETAIL_FOLDER / ".gitignore"
            if not ignore.exists():
                write_whole(ignore, b"*\n")
            if not (folder.path / "run.json").exists():
                write_whole(folder.path / "run.json", _pretty(description))
        except OSError as error:
            raise _unwritable(folder.path, error) from error
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run folder at `path`.

        Raises:
            RunFolderInvalid: It is none, or one of a later format.
        """
        folder = cls(path.resolve())
        folder.describe()
        return folder

    @classmethod
    def all_under(cls, root: Path) -> list[RunFolder]:
        """Every run folder of the project at `root` that can be read, the oldest first; of the others a log tells."""
        found = []
        for path in (root / names.DOVETAIL_FOLDER / "runs").glob("*/run.json"):
            folder = cls(path.parent)
            try:
                found.append((folder.describe().start_time_ms, folder.token, folder))
            except RunFolderInvalid as error:  # one damaged folder must not stand in the way of the others
                log.warning("%s", error)
        return [folder for *_, folder in sorted(found, key=lambda one: one[:2])]

    def is_there(self) -> bool:
        """Whether the folder has not been removed."""
        return (self.path / "run.json").exists()

    def has_room(self) -> bool:
        """Whether the disk has room for more than the training's own last words."""
        try:
            return self.is_there() and shutil.disk_usage(self.path).free >= _SPARE_BYTES
        except OSError:
            return False

    def describe(self) -> Description:
        """Read `run.json`.

        Raises:
            RunFolderInvalid: It is missing, damaged, or of a later format.
        """
        path = self.path / "run.json"
        try:
            description = msgspec.json.decode(path.read_bytes(), type=Description)
        except (OSError, msgspec.DecodeError) as error:
            raise _no_run_folder(self.path, str(error)) from error
        if description.version > VERSION:
            raise _too_new(self.path, description)
        if not _TOKEN.fullmatch(description.token):
            raise _no_run_folder(self.path, "its token is not 32 hex digits")
        self.token = description.token
        return description

    def segments(self) -> list[int]:
        """The numbers of the journal's segments, one a writer, the first first."""
        return sorted(int(path.stem) for path in self.journal.glob("*.dtj") if path.stem.isdigit())

    def segment(self, number: int) -> Path:
        """The file of a segment."""
        return self.journal / f"{number:04d}.dtj"

    def new_segment(self) -> int:
        """Take the next number, with this process's lease on it.

        Raises:
            RunFolderInvalid: The folder cannot be written.
        """
        taken = [int(path.stem) for path in self.leases.glob("*.json") if path.stem.isdigit()]
        number = max([*self.segments(), *taken], default=0)
        try:
            while True:
                number += 1
                try:
                    _write_new(self.leases / f"{number:04d}.json", msgspec.json.encode(Lease.own()))
                except FileExistsError:  # another process was faster
                    continue
                # Only now: whoever sees a segment sees whose it is, also when this process dies in between.
                os.close(os.open(self.segment(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                return number
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def lease(self, number: int) -> Lease | None:
        """Which process writes a segment; None in the moment before its lease is there."""
        return read_json(self.leases / f"{number:04d}.json", Lease)

    def life(self, number: int) -> Life:
        """Whether a segment's writer lives; unknown in the moment before its lease is there."""
        lease = self.lease(number)
        return lease.life() if lease else "unknown"

    def ending(self, number: int) -> Ending | None:
        """How a writer ended that could not say so itself; None when nobody has found that out."""
        return read_json(self.leases / f"{number:04d}.gone.json", Ending)

    def say(self, room: str, tags: Mapping[str, str]) -> None:
        """Keep what a room has found out about the run, for every store that the run goes to; before its files."""
        self.said_tags.mkdir(exist_ok=True)
        write_whole(self.said_tags / f"{room}.json", msgspec.json.encode(tags))

    def said(self) -> dict[str, str]:
        """The tags that rooms have found out."""
        found: dict[str, str] = {}
        for path in sorted(self.said_tags.glob("*.json")):
            found |= msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        return found

    def write_ending(self, number: int, ending: Ending) -> None:
        """Keep how a writer ended."""
        write_whole(self.leases / f"{number:04d}.gone.json", msgspec.json.encode(ending))


def root_for(project_root: Path) -> Path:
    """Where `.dovetail/` lies: in `DOVETAIL_DIR`, else in the project's root."""
    given = os.environ.get(names.ENV_DIR)
    return Path(given).expanduser().resolve() if given else project_root


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part, and a crash keeps one of them."""
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, kind: type[_Record]) -> _Record | None:
    """A record that was written with `write_whole`; None when it is not there or cannot be understood."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copy so that `target` is whole or not there.

    Returns:
        Size in bytes and SHA-256 of what was copied.
    """
    beside = _beside(target)
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as read, beside.open("wb") as write:
            while block := read.read(1 << 20):
                digest.update(block)
                size += write.write(block)
        shutil.copystat(source, beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return size, digest.hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    """A name for the new content that no other process and no other thread writes to at this moment."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")


def _pretty(record: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def _no_run_folder(path: Path, why: str) -> RunFolderInvalid:
    return RunFolderInvalid(
        f"{path} is no run folder.",
        f"It has no run.json that can be read: {why}.",
        f"Name a folder such as {names.DOVETAIL_FOLDER}/runs/<token>, or the project that has them.",
    )


def _too_new(path: Path, description: Description) -> RunFolderInvalid:
    return RunFolderInvalid(
        f"Cannot read the run folder {path}.",
        f"It has format {description.version}, made by Dovetail {description.made_by}; this one knows {VERSION}.",
        "Update it: pip install --upgrade mlflow-dovetail.",
    )


def _unwritable(path: Path, error: OSError) -> RunFolderInvalid:
    return RunFolderInvalid(
        f"Cannot write the run folder {path}.",
        f"{error.strerror or error}.",
        f"Make its parent writable, or set {names.ENV_DIR} to a folder with room.",
    )
