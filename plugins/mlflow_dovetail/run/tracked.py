"""A run that is being recorded."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mlflow_dovetail import names, redact
from mlflow_dovetail.journal import JournalWriter, Progress, clock_ms, entries
from mlflow_dovetail.records import DatasetInput, RunStatus
from mlflow_dovetail.run import configuration, values
from mlflow_dovetail.run.captures import Captures
from mlflow_dovetail.run.console import ConsoleTee
from mlflow_dovetail.run.delivery import Delivery
from mlflow_dovetail.run.endings import WATCH, traceback_text, verdict
from mlflow_dovetail.run.file_logging import FileLogging
from mlflow_dovetail.run.kept_files import KeptFiles
from mlflow_dovetail.run.open_runs import register
from mlflow_dovetail.run.open_tables import OpenTables
from mlflow_dovetail.run.opening import Opening
from mlflow_dovetail.run.settings import is_offline

if TYPE_CHECKING:
    from mlflow.entities import RunData, RunInfo

    from mlflow_dovetail.prediction_tables import Policy, TableWriter
    from mlflow_dovetail.run.client import JournalClient

log = logging.getLogger("mlflow_dovetail")

_LOOK_EVERY_MS = 10_000
TAG_LOGGED_ARTIFACTS = "mlflow.loggedArtifacts"


class Run(FileLogging):
    """Logs to a run without waiting for its store.

    Every method returns as soon as the operating system has the record; a recorder process brings it to MLflow. What
    goes wrong while logging is counted in the tag `dovetail.status.journal` and never raised, unless
    `DOVETAIL_STRICT=1`. Safe to use from several threads. As a context manager it ends the run with the truth:
    FINISHED, FAILED with the traceback, or KILLED.

    `start_run` and `track` make one.
    """

    def __init__(self, opening: Opening, script: Path | None = None, *, samples_system: bool | None = None) -> None:
        self._captures = Captures(opening, script)
        self._captures.start()
        self._opening = opening
        self._writer: JournalWriter = opening.writer
        self._run_id = opening.stored.run_id if opening.stored else ""
        self._known: set[str] = set()
        self._files = KeptFiles(opening.folder, opening.writer.number)
        self.logged_artifacts = (opening.stored.tags if opening.stored else {}).get(TAG_LOGGED_ARTIFACTS, "[]")
        """MLflow's list of the tables of the run, JSON."""
        self._tables = OpenTables(opening.folder, f"{opening.writer.number:04d}")
        self._pid = os.getpid()
        self._has_ended = False
        self._error: BaseException | None = None
        self._next_look_ms = clock_ms() + _LOOK_EVERY_MS
        self._tee = ConsoleTee(opening.folder.console)
        # Under `dovetail exec` that process hears what this one prints.
        if os.environ.get(names.ENV_PARENT_RUN) not in (self.run_id, self.token):
            self._tee.start()
        self._delivery = Delivery(opening, samples_system)
        self._start_recorder()
        self._register()
        WATCH.add(self)
        self._captures.wait_at_start()

    @property
    def token(self) -> str:
        """32 hex digits that name the run in every store."""
        return self._opening.folder.token

    @property
    def run_id(self) -> str:
        """MLflow's id; the token while no store has answered."""
        if not self._run_id and not is_offline():
            self._run_id = Progress.load(self._opening.folder, self._opening.tracking_uri).run_id
            if self._run_id:
                self._register()
        return self._run_id or self.token

    @property
    def experiment_id(self) -> str:
        """MLflow's; empty while no store has answered."""
        return self._opening.stored.experiment_id if self._opening.stored else ""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self._opening.folder.path

    @property
    def tracking_uri(self) -> str:
        """Of the store that the run goes to."""
        return self._opening.tracking_uri

    @property
    def is_offline(self) -> bool:
        """Whether no store has answered when the run was opened."""
        return self._opening.store is None

    @property
    def info(self) -> RunInfo:
        """As MLflow's Run has it; offline, what is known here."""
        if self._opening.store is not None:
            return self.client.get_run(self.run_id).info
        return self.opened_info

    @property
    def opened_info(self) -> RunInfo:
        """What was known when the run was opened; nobody is asked."""
        return self._opening.info(self.run_id)

    @property
    def data(self) -> RunData:
        """Params, last metrics and tags, as the store has them now.

        Raises:
            Offline: There is no store.
        """
        return self.client.get_run(self.run_id).data

    @cached_property
    def client(self) -> JournalClient:
        """MLflow's client; what is logged to this run through it goes to the journal."""
        from mlflow_dovetail.run.client import JournalClient

        return JournalClient(self._opening.tracking_uri, is_offline=self.is_offline)

    def log_metric(self, key: str, value: float, step: int | None = None) -> None:
        """Log one value; step 0 when left out, as in MLflow."""
        self.log_metrics({key: value}, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None, time_ms: int | None = None) -> None:
        """Log the values of one step.

        When this returns, the death of the process does not lose them. NaN and infinities are kept. A name that MLflow
        does not take is mapped, and the tag `dovetail.renamed` keeps the original. What is no number is left out, and
        counted.

        Args:
            metrics: Numbers, NumPy scalars, tensors of one element, by name.
            step: 0 when left out; a 64-bit integer.
            time_ms: When they were true, since the epoch, UTC; now when left out.
        """
        for value in metrics.values():
            if value.__class__ is not float:
                metrics = self._as_floats(metrics)
                break
        if not self._known.issuperset(metrics):
            metrics = self._learn(metrics)
        if step.__class__ is not int or not -values.LARGEST_STEP <= step <= values.LARGEST_STEP:
            step = self._as_step(step)
        if time_ms is not None:
            self._append(entries.Metrics(int(time_ms), step, dict(metrics)))
            return
        now = self._writer.metrics(metrics, step)
        if now >= self._next_look_ms:
            self._look(now)

    def log_param(self, key: str, value: Any) -> None:
        """Log one param."""
        self.log_params({key: value})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params, nested ones as `a.b`, as many as you like; secrets are masked.

        MLflow keeps 6,000 characters of a value, the journal all of it. A param that another attempt of the run has set
        otherwise keeps its first value there, and the tag `dovetail.changed_params` has the new one.
        """
        self._append(entries.Params(clock_ms(), values.flatten(params)))

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log a configuration: its values as params, the whole as the artifact `config/config.yaml`.

        Args:
            config: Nested; an OmegaConf node is resolved, but for what reads the environment.
        """
        shown = configuration.plain(config)
        self.log_params(shown)
        self.log_text(configuration.as_yaml(shown), f"{names.ARTIFACT_CONFIG}/config.yaml")

    def set_tag(self, key: str, value: Any) -> None:
        """Set or replace one tag."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set or replace tags."""
        self.logged_artifacts = str(tags.get(TAG_LOGGED_ARTIFACTS, self.logged_artifacts))
        self._append(entries.Tags(clock_ms(), {str(key): redact.mask_text(str(value)) for key, value in tags.items()}))

    def log_input(self, data: DatasetInput) -> None:
        """Log a dataset that the run has read."""
        self._append(entries.Input(clock_ms(), data.name, data.digest, data.source, data.context, data.source_type))

    def monitor(self, key: str, mode: str) -> None:
        """Say whether less ("min") or more ("max") of a metric is better: `best/<key>` is then kept."""
        self._append(entries.Monitor(clock_ms(), key, "min" if mode == "min" else "max"))

    def table(self, name: str, columns: Mapping[str, Any] | None = None, policy: Policy | None = None) -> TableWriter:
        """A prediction table, to append batches of rows to: `run.table("val").append({"id": [...], "label": [...]})`.

        Args:
            name: Of the table; asked for again, it is the same one.
            columns: What columns hold, by name, such as `Class(names)`; what is not said is read off the first batch.
            policy: Which rows are kept; all when left out.

        Raises:
            DovetailError: A column's kind or the policy is none that there is.
            OSError: The run folder cannot be written.
        """
        return self._tables.get(name, columns, policy)

    def write_link(self, directory: str | Path = ".") -> Path:
        """Write `mlflow_run.json`, by which DVC, and every revision that has the run's result, know the run.

        In a DVC stage, list it under `metrics`, and write it last: the stage's inputs are identified once more.

        Raises:
            InputsChanged: The stage's inputs were edited while it ran; nothing is written. `DOVETAIL_CHANGED_INPUTS`
                set to "warn" makes that a warning.
        """
        path, token = self._captures.data.write_link(Path(directory), self.run_id)
        self.set_tag(names.TAG_DVC_LINK, token)
        return path

    @property
    def link_path(self) -> Path | None:
        """Where the DVC stage that runs here has its `mlflow_run.json`; None where it lists none."""
        return self._captures.data.link_path()

    def end(self, status: RunStatus = "FINISHED", cause: str = "") -> None:
        """Say how the run ended, and wait for the store, 10 s at most. More may be logged afterwards.

        Raises:
            DovetailError: The status is none of MLflow's.
        """
        values.check_status(status)
        if os.getpid() != self._pid or self._writer.is_closed:
            return
        self._has_ended = True
        self._append(entries.End(clock_ms(), status, cause))
        self._delivery.flush()

    def fail(self, error: BaseException) -> None:
        """Say that an exception ended the run, with its traceback, and wait as `end` does."""
        self.say_ending(error)
        self._delivery.flush()

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be logged."""
        return self._writer.is_closed

    def will_end_by(self, error: BaseException) -> None:
        """Keep the exception that ends the run until it is closed, at the latest when the process exits."""
        self._error = error

    def close(self) -> None:
        """Log no more: the run is FINISHED unless something else was said. Twice is fine."""
        if os.getpid() != self._pid or self._writer.is_closed:
            return
        if not self._has_ended:
            self.say_ending(self._error)
        self._delivery.wait_for(self._captures)
        WATCH.remove(self)
        self._tables.close()
        self._tee.stop()
        for fault, count in self._tee.faults.items():
            self._writer.append(entries.Trouble(clock_ms(), f"the console could not be kept: {fault}", count))
        self._writer.close()
        self._delivery.flush()
        self._look(clock_ms())
        self._register(is_open=False)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.say_ending(error)
        self.close()

    def say_ending(self, error: BaseException | None) -> None:
        """Keep how an exception, or none, ended the run; it is sent when the run is closed."""
        if os.getpid() != self._pid or self._writer.is_closed:  # a forked child ends nothing but itself
            return
        status, cause = verdict(error)
        if error is not None and status == "FAILED":
            self.log_text(traceback_text(error), names.ARTIFACT_TRACEBACK)
        self._has_ended = True
        self._append(entries.End(clock_ms(), status, cause))

    def _as_floats(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        kept, refused = values.scalars(metrics)
        for key in refused:
            self._trouble(f"values of {key} are no numbers", "Log a number, or its text as a param or tag.")
        return kept

    def _as_step(self, step: Any) -> int:
        number, fault = values.as_step(step)
        if fault:
            self._trouble(fault, f"It is {step!r:.80}.")
        return number

    def _learn(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Look once at each name."""
        named = {str(key): value for key, value in metrics.items()}
        values.tell_renamed(named.keys() - self._known)
        self._known |= named.keys()
        return named

    def _append(self, entry: entries.Entry) -> None:
        if self._writer.is_closed:
            log.warning("The run %s has been closed; what is logged to it now is lost.", self.run_id)
            return
        self._writer.append(entry)
        if entry.time_ms >= self._next_look_ms:
            self._look(entry.time_ms)

    def _trouble(self, cause: str, advice: str) -> None:
        if not self._writer.is_closed:
            self._writer.trouble(cause, advice)

    def _look(self, now_ms: int) -> None:
        """See to it that a recorder serves this run."""
        self._next_look_ms = now_ms + _LOOK_EVERY_MS
        if os.getpid() == self._pid and self._delivery.needs_recorder():
            self._start_recorder()

    def _start_recorder(self) -> None:
        if cause := self._delivery.start_recorder():
            self._trouble(cause, "The run is sent at its end.")

    def _register(self, *, is_open: bool = True) -> None:
        register(self, (self._run_id, self.token), is_open=is_open)
