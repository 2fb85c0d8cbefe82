"""`dovetail revs RUN`: which revisions have a run's result."""

from __future__ import annotations

import argparse
import json
import sys

from mlflow_dovetail.cli.page import table

_SHOWN_DIGITS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail revs`."""
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run id or token, the beginning of one, a unique run name, or models:/name@alias",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print them.

    Raises:
        DovetailError: There is no such run, no repository here, or the store does not answer.
    """
    from mlflow_dovetail.run.lookup import revs

    found = revs(arguments.run, tracking_uri=arguments.tracking_uri)
    if arguments.json:
        told = [
            {"rev": one.rev, "names": one.names, "verdict": one.verdict, "details": one.details, "link": one.link}
            for one in found
        ]
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return 0
    if not found:
        print("dovetail: orphan: no revision here has the run's result", file=sys.stderr)
        return 0
    rows = [(one.rev[:_SHOWN_DIGITS], one.verdict, ", ".join(one.names), ", ".join(one.details)) for one in found]
    print(table(("rev", "verdict", "names", ""), rows))
    return 0
