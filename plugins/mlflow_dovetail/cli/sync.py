"""`dovetail sync [DIR]`: send run folders."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail.cli.page import safe

if TYPE_CHECKING:
    from mlflow_dovetail.run.sync import State, SyncResult

_SHOWN_DIGITS = 8
_CLEAR_LINE = "\r\033[K"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail sync`."""
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        type=Path,
        help="a run folder, or a project with runs (default: this project); without --tracking-uri and "
        "MLFLOW_TRACKING_URI each run goes to the store that it was meant for",
    )


def run(arguments: argparse.Namespace) -> int:
    """Send what has not been sent.

    Raises:
        DovetailError: The directory has no runs, or the address cannot be used.
    """
    from mlflow_dovetail.run.sync import find_folders, sync_folders

    folders = find_folders(arguments.directory)
    talk = _Talk(len(folders))
    results: list[SyncResult] = []
    try:
        for result in sync_folders(folders, arguments.tracking_uri, on_progress=talk.show):
            talk.tell(result)
            results.append(result)
    except KeyboardInterrupt:
        talk.interrupt()
        raise
    print(as_json(results) if arguments.json else summary(results))
    # One that was named is to be sent; among many, one that goes on is no failure.
    is_named = bool(arguments.directory) and folders == [arguments.directory.resolve()]
    fine = {"complete", "already complete"} if is_named else {"complete", "already complete", "live"}
    return int(any(one.state not in fine for one in results))


def as_json(results: Sequence[SyncResult]) -> str:
    """A list with one object a run folder."""
    return json.dumps([{**asdict(one), "folder": str(one.folder)} for one in results], indent=2, ensure_ascii=False)


def summary(results: Sequence[SyncResult]) -> str:
    """One line."""
    count = Counter(one.state for one in results)
    if not count.keys() - {"already complete"}:
        return "nothing to send"
    words: dict[State, str] = {
        "complete": "sent",
        "already complete": "sent before",
        "live": "still being written",
        "partial": "sent in part",
        "failed": "not sent",
    }
    return ", ".join(f"{count[state]} {text}" for state, text in words.items() if count[state])


class _Talk:
    """One line a run on standard error; on a terminal it moves while the run is sent."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._moves = sys.stderr.isatty()

    def show(self, token: str, values: int, files: int) -> None:
        """How far a run is."""
        if self._moves:
            line = f"{_CLEAR_LINE}[{self._done + 1}/{self._total}] {token[:_SHOWN_DIGITS]}  {_sent(values, files)} …"
            print(line, end="", file=sys.stderr, flush=True)

    def tell(self, result: SyncResult) -> None:
        """What became of a run."""
        self._done += 1
        if self._moves:
            print(_CLEAR_LINE, end="", file=sys.stderr)
        if result.state == "already complete":
            return
        parts = [result.token[:_SHOWN_DIGITS], result.name, result.status, _sent(result.values, result.files)]
        line = f"[{self._done}/{self._total}] {'  '.join(safe(part) for part in parts if part)}"
        if result.why:
            line += f"  {result.state}: {result.folder}\n  {result.why}"
        print(line, file=sys.stderr, flush=True)

    def interrupt(self) -> None:
        """What Ctrl-C has left."""
        print(
            f"{_CLEAR_LINE if self._moves else ''}dovetail: interrupted after {self._done} of {self._total} runs.\n"
            "  What has been sent is kept.\n  Run `dovetail sync` again: it goes on from there.",
            file=sys.stderr,
        )


def _sent(values: int, files: int) -> str:
    return f"{values:,} values, {files:,} files"
