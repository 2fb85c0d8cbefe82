"""The prediction tables of a run that is open here: one writer a table."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlflow_dovetail import names
from mlflow_dovetail.run.abandoned import is_recorders
from mlflow_dovetail.run_folder import RunFolder

if TYPE_CHECKING:
    from mlflow_dovetail.prediction_tables import Policy, TableWriter


class OpenTables:
    """Makes the writers, and closes them with the run.

    Args:
        folder: Of the run.
        writer: Which of several processes of the run writes.
    """

    def __init__(self, folder: RunFolder, writer: str) -> None:
        self._folder = folder
        self._writer = writer
        self._open: dict[str, TableWriter] = {}

    def _attempt(self) -> int:
        """The number of the run's writer that this belongs to: a later one's rows count where both say the same."""
        if self._writer.isdigit():
            return int(self._writer)
        trainers = (number for number in self._folder.segments() if not is_recorders(self._folder, number))
        return max(trainers, default=1)

    def get(self, name: str, columns: Mapping[str, Any] | None, policy: Policy | None) -> TableWriter:
        """The writer of a table; what it holds and keeps is said at the first call.

        Raises:
            DovetailError: A column's kind or the policy is none that there is, or the run's folder is gone.
        """
        from mlflow_dovetail.prediction_tables import All, TableWriter

        if name not in self._open:
            self._open[name] = TableWriter(
                self._folder.tables,
                name,
                columns=columns,
                policy=policy or All(),
                writer=self._writer,
                attempt=self._attempt(),
                is_piece=self._folder.describe().run_id is not None,  # the run was there before this folder
            )
        return self._open[name]

    def trouble(self, cause: str) -> None:
        """Close the tables, and have the run's status tell that this writer keeps no more; never raises.

        For a process that has no `Run` of its own, such as a training's other ranks: the recorder sets the tag.

        Args:
            cause: One line.
        """
        for writer in self._open.values():
            writer.give_up()
        text = f"degraded: {self._writer}: {cause}"[: names.MAX_TAG_LENGTH]
        with suppress(OSError):  # the log has it
            self._folder.say(f"predictions-{self._writer}", {f"{names.TAG_STATUS_PREFIX}predictions": text})

    def close(self) -> None:
        """Append no more."""
        for writer in self._open.values():
            writer.close()
