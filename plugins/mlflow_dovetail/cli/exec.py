"""`dovetail exec -- COMMAND`: track a command."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from mlflow_dovetail.errors import DovetailError

if TYPE_CHECKING:
    from mlflow_dovetail.run.command import CommandResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail exec`."""
    options = "[-h] [--run-name NAME] [--experiment NAME] [--tracking-uri URI] [--json]"
    parser.usage = f"dovetail exec {options} -- COMMAND [ARGUMENT ...]"
    parser.add_argument("--run-name", metavar="NAME", help="of the run (default: one that MLflow invents)")
    parser.add_argument(
        "--experiment", metavar="NAME", help='made on first use (default: MLFLOW_EXPERIMENT_NAME, else "Default")'
    )
    parser.add_argument(
        "command",
        metavar="COMMAND",
        nargs="+",
        help="after `--`: a program and its arguments. Its output passes through and is kept; what it logs with mlflow "
        "or mlflow_dovetail lands in the run; its exit code is returned",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        DovetailError: The experiment has been deleted, or no folder can be written.
    """
    if sys.platform == "win32":
        raise DovetailError("Cannot track a command.", "That needs a POSIX system.", "Call start_run in the program.")
    from mlflow_dovetail.run.command import CannotStart, run_command

    try:
        result = run_command(
            arguments.command,
            run_name=arguments.run_name,
            experiment=arguments.experiment,
            tracking_uri=arguments.tracking_uri,
        )
    except CannotStart as error:
        print(f"dovetail: {error.what}\n  {error.why}\n  {error.remedy}", file=sys.stderr)
        return error.exit_code
    print(f"dovetail: {_told(result)}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({**asdict(result), "folder": str(result.folder)}))
    return result.exit_code


def _told(result: CommandResult) -> str:
    line = f"run {result.run_id} {result.status}"
    if result.cause:
        line += f" ({result.cause})"
    return line if result.is_sent else f"{line}; what has not been sent is kept in {result.folder}"
