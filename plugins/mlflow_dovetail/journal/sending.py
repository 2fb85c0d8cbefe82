"""Sending a run folder to a store: in order, each point exactly once, from where the last sending stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.errors import RunFolderBusy, RunNotFound, StoreRefused
from mlflow_dovetail.journal import table_list
from mlflow_dovetail.journal.entries import Start, decode
from mlflow_dovetail.journal.files import FileSender
from mlflow_dovetail.journal.progress import Attempt, Progress, is_complete
from mlflow_dovetail.journal.translate import Outgoing, best_points, bounded_json, told, translate
from mlflow_dovetail.records import MetricPoint, Run, RunStatus
from mlflow_dovetail.run_folder import RunFolder, SegmentReader
from mlflow_dovetail.store import RunStore

_POINTS_AT_ONCE = 5000
_TOLD_PARAM_LENGTH = 500


class OutOfTime(Exception):
    """The time that was given has passed; what has been sent is acknowledged."""


class Sender:
    """Sends one run folder to one store. Only one at a time may do that: hold `sending(folder)`.

    Args:
        folder: Of the run.
        store: Bound to the run's experiment.
        deadline: On `time.monotonic()`, after which `send` raises `OutOfTime` at the next step.
        on_progress: Called with a line of what has been sent.
    """

    def __init__(
        self,
        folder: RunFolder,
        store: RunStore,
        *,
        deadline: float = float("inf"),
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder
        self.store = store
        self.progress = Progress.load(folder, store.uri)
        self._deadline = deadline
        self._on_progress = on_progress or (lambda _: None)

    def send(self) -> bool:
        """Send all that is there now.

        Returns:
            Whether the run is complete in the store: every writer has ended, every file is there, the status is true.

        Raises:
            StoreUnavailable: The store does not answer. Nothing is lost; send again.
            RunNotFound: The run has been deleted there.
            OutOfTime: The deadline has passed.
        """
        is_sent = False
        try:
            self._open_run()
            for number in self.folder.segments():
                self._send_segment(number)
            files = FileSender(self.folder, self.store, self.progress, self._check_time, self._on_progress)
            files.send()
            self._list_tables()
            self._settle()
            is_sent = True
        finally:
            if not is_sent:  # what was translated and not acknowledged is translated again
                self.progress = Progress.load(self.folder, self.store.uri)
        return is_complete(self.folder, self.progress)

    def _open_run(self) -> None:
        progress = self.progress
        if progress.run_id:
            return
        about = self.folder.describe()
        if about.run_id and progress.uri == about.tracking_uri:
            run = self.store.get_run(about.run_id)
        else:
            # A run that this folder only adds to may have come here already, in an experiment that is known to the
            # folder which made it.
            known = self.store.search(names.TAG_TOKEN, about.token) if about.run_id else []
            run = next(iter(known), None) or self.store.create_run(
                about.token, name=about.name, tags=about.tags, start_time_ms=about.start_time_ms
            )
        progress.begin(run, about)
        progress.save(self.folder)

    def _send_segment(self, number: int) -> None:
        segment = str(number)
        path = self.folder.segment(number)
        reader = SegmentReader(path, self.progress.offsets.get(segment, 0))
        ended = self.folder.life(number) == "dead" or self.folder.ending(number) is not None
        more = True
        while more:
            outgoing, before = Outgoing(), reader.offset
            more = self._fill(outgoing, reader, segment, ended)
            if reader.damaged_bytes:
                cause = f"{reader.damaged_bytes} bytes of segment {segment} of the journal cannot be read"
                self.progress.troubles[cause] = 1
            if reader.offset == before:
                break
            self._put(outgoing)
            self.progress.offsets[segment], self.progress.settled = reader.offset, False
            self._apply_ending(number)
            self.progress.save(self.folder)
        self._apply_ending(number)

    def _fill(self, outgoing: Outgoing, reader: SegmentReader, segment: str, ended: bool) -> bool:
        """Translate entries until there are enough; whether there may be more."""
        before = reader.offset
        for payload in reader.read(ended=ended):
            try:
                entry = decode(payload)
                if not isinstance(entry, Start):
                    self._attempt(segment, entry.time_ms)
                translate(entry, segment, self.progress, outgoing)
            except msgspec.DecodeError:
                self.progress.trouble("entries of the journal are of a kind that this version does not know")
            if len(outgoing.points) >= _POINTS_AT_ONCE:
                return True
        return reader.offset > before

    def _attempt(self, segment: str, time_ms: int) -> Attempt:
        """What is known of a segment; one whose first entry was damaged, or never written, has begun all the same."""
        attempt = self.progress.attempts.get(segment)
        if attempt is None:
            is_first = segment == "1" and self.folder.describe().run_id is None
            attempt = Attempt("create" if is_first else "append", 1, time_ms, time_ms=time_ms)
            self.progress.attempts[segment] = attempt
        return attempt

    def _apply_ending(self, number: int) -> None:
        ending = self.folder.ending(number)
        if ending is None:
            return
        attempt = self._attempt(str(number), ending.time_ms)
        if not attempt.closed:
            attempt.closed, self.progress.settled = True, False
            if attempt.status is None:
                attempt.status, attempt.cause = ending.status, ending.cause
                attempt.time_ms = max(attempt.time_ms, ending.time_ms)  # the wall's clock may have been set back

    def _put(self, outgoing: Outgoing) -> None:
        run_id = self.progress.run_id
        for start in range(0, len(outgoing.points), names.MAX_METRICS_PER_BATCH):
            self._check_time()
            self._put_points(outgoing.points[start : start + names.MAX_METRICS_PER_BATCH])
        if outgoing.params:
            self._put_params(outgoing.params)
        if table_list.TAG in outgoing.tags:
            self._add_tables(outgoing.tags.pop(table_list.TAG), is_users=True)
        self._put_each("the tag", outgoing.tags, lambda tags: self.store.set_tags(run_id, tags))
        if outgoing.inputs:
            self._or_trouble("datasets", lambda: self.store.log_inputs(run_id, outgoing.inputs))
        if outgoing.points:
            self._on_progress(f"{len(outgoing.points)} values")

    def _put_points(self, points: Sequence[MetricPoint]) -> None:
        try:
            self.store.log_metrics(self.progress.run_id, points)
        except StoreRefused as error:
            if len(points) == 1:
                self.progress.trouble(f"{points[0].key} at step {points[0].step}: {error.why}")
                return
            middle = len(points) // 2
            self._put_points(points[:middle])
            self._put_points(points[middle:])

    def _put_params(self, params: dict[str, str]) -> None:
        """Params that another attempt has set otherwise keep the first value; the new one is told in a tag."""
        try:
            self.store.log_params(self.progress.run_id, params)
        except StoreRefused:
            run = self.store.get_run(self.progress.run_id)
            cut = {key: value[: names.MAX_PARAM_LENGTH] for key, value in params.items()}
            new = {key: value for key, value in cut.items() if key not in run.params}
            self._put_each("the param", new, lambda some: self.store.log_params(run.run_id, some))
            changed = {key: value for key, value in cut.items() if run.params.get(key, value) != value}
            if changed:
                self.store.set_tags(run.run_id, {names.TAG_CHANGED_PARAMS: self._changed_params(run, changed)})

    def _changed_params(self, run: Run, changed: dict[str, str]) -> str:
        attempt = str(self.progress.trainings[-1].number if self.progress.trainings else 1)
        try:
            known = json.loads(run.tags.get(names.TAG_CHANGED_PARAMS, "{}"))
        except ValueError:  # somebody else's words
            known = {}
        table = {**known.get(attempt, {}), **{key: value[:_TOLD_PARAM_LENGTH] for key, value in changed.items()}}
        bounded = json.loads(bounded_json(table, names.MAX_TAG_LENGTH - 100))
        return bounded_json({attempt: bounded, **{key: one for key, one in known.items() if key != attempt}})

    def _put_each(self, what: str, values: dict[str, str], put: Callable[[dict[str, str]], None]) -> None:
        """Put all at once; where the store refuses, one by one, so that one that is refused costs no other."""
        if not values:
            return
        try:
            put(values)
        except StoreRefused:
            for key, value in values.items():
                self._or_trouble(f"{what} {key}", partial(put, {key: value}))

    def _list_tables(self) -> None:
        """Name the prediction tables that are there now, which MLflow would ask for at once."""
        listed = table_list.tables_among(self.progress.captured)
        if listed and self.progress.told.get(table_list.TAG) != listed:
            self._add_tables(listed, is_users=False)
            self.progress.told[table_list.TAG] = listed

    def _add_tables(self, listed: str, *, is_users: bool) -> None:
        """Another process, or this run on another machine, may have named others in the same tag."""
        run_id = self.progress.run_id
        known = self.store.get_run(run_id).tags.get(table_list.TAG, "")
        tags = {table_list.TAG: table_list.joined(known, listed, is_users=is_users)}
        self._put_each("the tag", tags, lambda tags: self.store.set_tags(run_id, tags))

    def _settle(self) -> None:
        """Make the run's status, its best values and the tags about the recording true."""
        progress, run_id = self.progress, self.progress.run_id
        trainings, new = progress.trainings, told(progress) | self.folder.said()
        status: RunStatus = "RUNNING"
        end_ms: int | None = None
        if not trainings:  # others decide how this run ends
            status = progress.status or status
        elif not progress.is_live:
            last = trainings[-1]
            status, end_ms = last.status or "FAILED", last.time_ms
            if last.cause or progress.told.get(names.TAG_END_CAUSE):
                new |= {names.TAG_END_CAUSE: last.cause}
        new = {key: value for key, value in new.items() if progress.told.get(key) != value}
        # At the end the store is asked: a resumed run was set to RUNNING, another logger may have had its own word.
        run = self.store.get_run(run_id) if end_ms is not None else None
        if run and _attempt_of(run) > trainings[-1].number:
            # Resumed from another folder since: that one says how the run ends.
            progress.status, progress.settled = run.status, True
            progress.told |= self.folder.said()
            progress.save(self.folder)
            return
        if names.TAG_BEST in new and not progress.is_live:
            self._put_points(best_points(progress))
        elif progress.is_live:
            new.pop(names.TAG_BEST, None)
        if new:
            self.store.set_tags(run_id, new)
            progress.told |= new
        if status != (run.status if run else progress.status):
            self.store.set_status(run_id, status, end_time_ms=end_ms)
        progress.status, progress.settled = status, True
        progress.save(self.folder)

    def _or_trouble(self, what: str, put: Callable[[], Any]) -> None:
        try:
            put()
        except RunNotFound:
            raise
        except StoreRefused as error:
            self.progress.trouble(f"{what} refused: {error.why}")

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise OutOfTime


def _attempt_of(run: Run) -> int:
    """Which attempt a run is in, as its store tells it."""
    told = run.tags.get(names.TAG_ATTEMPT, "")
    return int(told) if told.isdecimal() else 0


@contextmanager
def sending(folder: RunFolder) -> Iterator[None]:
    """Be the only one that sends a run folder.

    Raises:
        RunFolderBusy: Another process does so now.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.path / "sending.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunFolderBusy(
            f"Cannot send the run folder {folder.path}.",
            "Another process, its recorder most likely, is sending it now.",
            "Wait for that one to end; it sends everything by itself.",
        ) from error
    try:
        yield
    finally:
        lock.release()
