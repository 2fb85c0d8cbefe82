"""`dovetail restore RUN DIR`: the code of a run again."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_dovetail.cli.page import escaped
from mlflow_dovetail.cli.patch import tell_proofs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail restore`."""
    parser.add_argument("run", metavar="RUN", help="a run id or token, the beginning of one, or a unique run name")
    parser.add_argument(
        "directory",
        metavar="DIR",
        type=Path,
        help="empty, or not there. In a repository that has the run's commit it becomes a worktree of that; elsewhere "
        "a fresh clone of the run's remote",
    )


def run(arguments: argparse.Namespace) -> int:
    """Restore it.

    Raises:
        DovetailError: There is no such run; it has no code; DIR is not empty; or the code cannot be had here.
    """
    from mlflow_dovetail import git_patch
    from mlflow_dovetail.run.kept_code import KeptCode

    with _cleaning_up_after_sigterm(), KeptCode(arguments.run, arguments.tracking_uri) as code:
        proofs = git_patch.restore(
            code.state,
            Path.cwd(),
            arguments.directory,
            code.patch,
            lambda line: print(f"dovetail: {escaped(line)}", file=sys.stderr, flush=True),
        )
    done = f"in {arguments.directory} is"
    tell_proofs(code.run_id, code.state, proofs, done, as_json=arguments.json)
    return 0


@contextmanager
def _cleaning_up_after_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
