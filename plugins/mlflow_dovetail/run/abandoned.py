"""Writers that are gone without a word: found by their lease, and their ending kept."""

from __future__ import annotations

import os
import time

from mlflow_dovetail.journal import Progress, entries
from mlflow_dovetail.run.out_of_memory import read_oom_kills
from mlflow_dovetail.run_folder import Ending, RunFolder

VANISHED = "vanished"
OUT_OF_MEMORY = "out of memory"
# Another machine cannot be asked: it is taken for dead when its recorder has been silent for so long.
SILENT_SECONDS = 600.0


def close_abandoned(folder: RunFolder, oom_kills_before: int | None = None, *, from_outside: bool = False) -> list[int]:
    """Give every writer that is dead and has not said how it ended its ending.

    Args:
        folder: Of the run.
        oom_kills_before: What the cgroup had counted while the writer lived; None where nobody looked.
        from_outside: The caller is not the run's own recorder: writers of other machines count by their heartbeat.

    Returns:
        The numbers of the writers that live, or may live.
    """
    living = []
    for number in folder.segments():
        if _is_over(folder, number):
            continue
        life = folder.life(number)
        is_lost = life == "unknown" and (_is_resumed(folder, number) or (from_outside and _is_silent(folder)))
        if life == "dead" or is_lost:
            time_ms = _last_sign_ms(folder, number) if from_outside or is_lost else time.time_ns() // 1_000_000
            folder.write_ending(number, Ending("FAILED", _cause(oom_kills_before), time_ms))
        else:
            living.append(number)
    return living


def is_all_over(folder: RunFolder) -> bool:
    """Whether every writer has closed its segment, or its ending is known; the recorder's own do not count."""
    return all(_is_over(folder, number) or is_recorders(folder, number) for number in folder.segments())


def is_watched(folder: RunFolder) -> bool:
    """Whether a recorder samples the machine, and has not said its last word on it."""
    return any(
        is_recorders(folder, number) and not _is_over(folder, number) and folder.life(number) == "alive"
        for number in folder.segments()
    )


def is_recorders(folder: RunFolder, number: int) -> bool:
    """Whether a segment is a recorder's, about the machine."""
    return entries.kind_of(folder.segment(number)) == "system"


def _is_over(folder: RunFolder, number: int) -> bool:
    return folder.ending(number) is not None or entries.is_closed(folder.segment(number))


def has_ended(progress: Progress) -> bool:
    """Whether the store has a final status."""
    return progress.status not in ("", "RUNNING", "SCHEDULED")


def _cause(oom_kills_before: int | None) -> str:
    now = read_oom_kills(os.getpid()) if oom_kills_before is not None else None
    return OUT_OF_MEMORY if now is not None and oom_kills_before is not None and now > oom_kills_before else VANISHED


def _is_resumed(folder: RunFolder, number: int) -> bool:
    """Whether a later writer goes on with the training: a container or a machine that is gone cannot be asked."""
    return any(entries.kind_of(folder.segment(later)) == "resume" for later in folder.segments() if later > number)


def _is_silent(folder: RunFolder) -> bool:
    """Whether neither the recorder nor a writer has touched the folder for long."""
    paths = [folder.heartbeat, *(folder.segment(number) for number in folder.segments())]
    last = max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)
    return time.time() - last > SILENT_SECONDS


def _last_sign_ms(folder: RunFolder, number: int) -> int:
    times = [path.stat().st_mtime_ns for path in (folder.segment(number), folder.heartbeat) if path.exists()]
    return max(times) // 1_000_000
