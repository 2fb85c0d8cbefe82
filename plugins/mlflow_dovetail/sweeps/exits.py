"""A job that calls `sys.exit`: Hydra lets that through, and one job would end the whole sweep, each time again."""

from __future__ import annotations

from typing import Any

from hydra.types import TaskFunction

from mlflow_dovetail.run.endings import verdict


class JobExit(Exception):
    """A job has called `sys.exit`, so that it has failed.

    Attributes:
        code: As `sys.exit` was given it: a number, a text, or None.
    """

    @property
    def code(self) -> Any:
        return self.args[0]


class _WithoutExit:
    """It goes along to the processes of the jobs; a closure could not everywhere."""

    def __init__(self, task: TaskFunction) -> None:
        self._task = task

    def __call__(self, config: Any) -> Any:
        try:
            return self._task(config)
        except SystemExit as error:
            if verdict(error)[0] == "KILLED":
                raise
            raise JobExit(error.code) from error


def without_exit(task: TaskFunction) -> TaskFunction:
    """The task, with `JobExit` in the place of SystemExit; Ctrl-C and SIGTERM, which Lightning turns into it, stay."""
    return _WithoutExit(task)
