"""One process at a time goes on with a study: its lease is kept in the study, and renewed while it is at it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import optuna

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.run.abandoned import SILENT_SECONDS
from mlflow_dovetail.run_folder import Lease

log = logging.getLogger(__name__)

_LEASE = "dovetail.lease"
_BEAT = "dovetail.beat"
BEAT_SECONDS = 60.0
# Without a lock the one that has written last has it: the other sees that after a moment.
_SETTLING_SECONDS = 1.0


def take(study: optuna.Study, *, is_alone: bool) -> None:
    """Take hold of the study.

    Args:
        study: Nobody else's.
        is_alone: Whether the caller has a lock, so that no other process does the same at this moment.

    Raises:
        DovetailError: A process that lives is at it, or one of another machine that was heard of lately.
    """
    _refuse(study)
    study.set_user_attr(_BEAT, time.time())
    study.set_user_attr(_LEASE, msgspec.to_builtins(Lease.own()))
    if not is_alone:
        time.sleep(_SETTLING_SECONDS)
        _refuse(study)


@contextmanager
def held(study: optuna.Study) -> Iterator[None]:
    """Renew the hold until the block ends, and then let go."""
    over = threading.Event()
    thread = threading.Thread(target=_beat, args=(study, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        study.set_user_attr(_LEASE, None)


def _beat(study: optuna.Study, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        try:
            study.set_user_attr(_BEAT, time.time())
        except Exception as error:  # noqa: BLE001 - any storage's own; the next beat tries again
            log.warning("The study's storage does not answer: %s", type(error).__name__)


def _refuse(study: optuna.Study) -> None:
    known: dict[str, Any] = study.user_attrs
    lease = msgspec.convert(known[_LEASE], Lease) if known.get(_LEASE) else None
    if lease is None or lease == Lease.own():
        return
    silent = time.time() - known.get(_BEAT, 0.0)
    life = lease.life()
    if life == "alive" or (life == "unknown" and silent < SILENT_SECONDS):
        raise _busy(study.study_name, lease, None if life == "alive" else SILENT_SECONDS - silent)


def _busy(name: str, lease: Lease, seconds: float | None) -> DovetailError:
    elsewhere = "" if seconds is None else f" of the machine or container {lease.host}"
    how = "Wait until it has ended, or end it; then run the same command again."
    if seconds is not None:
        how = f"Wait until it has ended. If it is gone already, run the same command again in {seconds:.0f} s."
    return DovetailError(f"Cannot go on with the study {name!r}.", f"The process {lease.pid}{elsewhere} is at it.", how)
