"""What was read of a history, kept until a ref moves. Lost, old or broken, it is read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.records import RevOfRun
from mlflow_dovetail.dvc_link.scanning import Index
from mlflow_dovetail.dvc_link.verdicts import LinkAt, RunFacts
from mlflow_dovetail.run_folder import root_for, write_whole

_FORMAT = 2
_MOST_BYTES = 64 << 20
_MOST_ANSWERS = 200
_Record = TypeVar("_Record", bound=msgspec.Struct)


class _Kept(msgspec.Struct, array_like=True):
    """`links.msgpack` and `locks.msgpack`."""

    key: str
    index: Index


class _Answers(msgspec.Struct, array_like=True):
    """`revs.msgpack`: by run, the oldest first."""

    key: str
    answers: dict[str, list[RevOfRun]]


class HistoryCache:
    """Three files of one repository, in `<root>/.dovetail/cache/`; what cannot be written is not kept.

    Args:
        root: Of the project.
        key: Of the refs; what was kept under another one does not count.
    """

    def __init__(self, root: Path, key: str) -> None:
        self._folder = root / names.DOVETAIL_FOLDER / "cache"
        self._key = f"{_FORMAT} {key}"

    def index(self, name: str, scan: Callable[[], Index]) -> Index:
        """The history as it was kept under a name, else as it is scanned."""
        kept = self._load(f"{name}.msgpack", _Kept)
        if kept and kept.key == self._key:
            return kept.index
        index = scan()
        self._save(f"{name}.msgpack", _Kept(self._key, index))
        return index

    def answer(self, run: RunFacts, here: Sequence[LinkAt]) -> list[RevOfRun] | None:
        """The revisions of a run while the work tree has these links, if they were kept."""
        return self._answers().get(_digest(run, here))

    def keep_answer(self, run: RunFacts, here: Sequence[LinkAt], answer: Sequence[RevOfRun]) -> None:
        answers = self._answers() | {_digest(run, here): list(answer)}
        latest = dict(list(answers.items())[-_MOST_ANSWERS:])
        self._save("revs.msgpack", _Answers(self._key, latest))

    def _answers(self) -> dict[str, list[RevOfRun]]:
        kept = self._load("revs.msgpack", _Answers)
        return kept.answers if kept and kept.key == self._key else {}

    def _load(self, name: str, kind: type[_Record]) -> _Record | None:
        try:
            return msgspec.msgpack.decode((self._folder / name).read_bytes(), type=kind)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _save(self, name: str, record: msgspec.Struct) -> None:
        with suppress(OSError, UnicodeEncodeError):
            content = msgspec.msgpack.encode(record)
            if len(content) > _MOST_BYTES:
                return
            self._folder.mkdir(parents=True, exist_ok=True)
            ignore = self._folder.parent / ".gitignore"
            if not ignore.exists():
                ignore.write_bytes(b"*\n")
            write_whole(self._folder / name, content)


def cache_root(folder: Path, top: Path) -> Path:
    """Where `.dovetail/` lies: `DOVETAIL_DIR`, else in the DVC project around the folder, else at the top of git's."""
    here = folder.resolve()
    around = [parent for parent in (here, *here.parents) if parent == top or top in parent.parents]
    return root_for(next((parent for parent in around if (parent / ".dvc").is_dir()), top))


def _digest(run: RunFacts, here: Sequence[LinkAt]) -> str:
    return hashlib.sha256(msgspec.json.encode([run, here], order="sorted")).hexdigest()
