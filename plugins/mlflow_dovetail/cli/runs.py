"""`dovetail runs REV|PATH[@REV]|md5:HASH`: which runs made it, read it or wrote it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from mlflow_dovetail.cli.page import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail runs`."""
    parser.add_argument(
        "what",
        metavar="REV|PATH[@REV]|md5:HASH",
        help="a commit, branch, tag, DVC experiment or `workspace`; a file or folder that DVC tracks, at a revision or "
        "now; or its hash",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print them.

    Raises:
        DovetailError: The revision is not there; the file is not tracked; the store does not answer.
    """
    from mlflow_dovetail.run.lookup import ask

    found = ask(arguments.what, tracking_uri=arguments.tracking_uri)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return 0
    if not found:
        print(f"dovetail: no run is known for {arguments.what}", file=sys.stderr)
        return 0
    rows = [
        (one.run_id or "-", one.name, one.status, one.verdict, one.stage, ", ".join((*one.details, *one.models)))
        for one in found
    ]
    print(table(("run", "name", "status", "verdict", "stage", ""), rows))
    return 0
