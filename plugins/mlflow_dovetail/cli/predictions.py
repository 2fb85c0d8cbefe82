"""`dovetail predictions show RUN` and `diff RUN_A RUN_B`: what the model said, and what changed between two runs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_dovetail.cli.page import Section, render_page, safe, table, wants_colour

if TYPE_CHECKING:
    from mlflow_dovetail.prediction_tables import Comparison
    from mlflow_dovetail.run.predictions import FoundTable

_PURPOSES = {
    "show": "the most confident mistakes of one run, or with --json all of its rows",
    "diff": "what a second run has newly right and newly wrong, joined by the examples' ids",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail predictions`."""
    actions = "\n".join(f"  {action:8}{purpose}" for action, purpose in _PURPOSES.items())
    parser.description = f"{parser.description}\n\n{actions}"
    parser.add_argument("action", choices=tuple(_PURPOSES), help="see above")
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="a run id or token, the beginning of one, or a unique run name"
    )
    parser.add_argument("--table", default="val", help="which one (default: val)")
    parser.add_argument("--rows", type=_count, default=20, metavar="N", help="show: at most so many (default: 20)")
    parser.add_argument(
        "--slice", action="append", default=[], metavar="COLUMN", help="diff: also by this column; may be repeated"
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="diff: write a page with both runs' predictions side by side"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it.

    Raises:
        DovetailError: There is no such run or table, or the two cannot be compared.
        OSError: The page cannot be written.
    """
    from mlflow_dovetail.run.predictions import open_tables

    wanted = 1 if arguments.action == "show" else 2
    if len(arguments.runs) != wanted:
        print(f"dovetail: predictions {arguments.action} takes {wanted} of RUN", file=sys.stderr)
        return 2
    with open_tables(arguments.runs, arguments.table, arguments.tracking_uri) as found:
        if arguments.action == "show":
            _show(found[0], arguments.rows, as_json=arguments.json)
        else:
            _diff(found, arguments)
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)


def _show(found: FoundTable, most: int, *, as_json: bool) -> None:
    from mlflow_dovetail.prediction_tables import worst_first

    if as_json:
        every = [_finite(row) for row in found.rows().to_pylist()]
        print(json.dumps({"run_id": found.run.run_id, "table": found.manifest.table, "rows": every}, allow_nan=False))
        return
    last = found.last_epoch()
    heads, rows, order = worst_first(last, found.manifest, most)
    total = f"{found.manifest.rows:,} rows"
    if len(last) < found.manifest.rows:
        total += f", {len(last):,} of them of the last epoch"
    print(f"{safe(found.run.name)}, {safe(found.manifest.table)}: {total}. {order}:\n")
    print(table(heads, rows))


def _finite(value: Any) -> Any:  # noqa: ANN401 - what JSON may hold
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _diff(found: list[FoundTable], arguments: argparse.Namespace) -> None:
    from mlflow_dovetail.prediction_tables import as_json, as_text, compare

    a, b = found
    rows = (a.last_epoch(), b.last_epoch())
    compared = compare(*rows, manifest_a=a.manifest, manifest_b=b.manifest, slices=tuple(arguments.slice))
    names = (a.run.name, b.run.name) if a.run.name != b.run.name else (a.run.run_id[:8], b.run.run_id[:8])
    if arguments.html:
        _write_page(compared, names, found, arguments.html)
    if arguments.json:
        runs = {"run_a": a.run.run_id, "run_b": b.run.run_id}
        print(json.dumps({**runs, **_finite(as_json(compared))}, indent=2, allow_nan=False))
        return
    sections = [Section(heading, rows) for heading, rows in as_text(compared, names)]
    print(render_page(f"{names[0]} and {names[1]}, {a.manifest.table}", sections, colour=wants_colour()))


def _write_page(compared: Comparison, names: tuple[str, str], found: list[FoundTable], target: Path) -> None:
    from mlflow_dovetail.prediction_tables import render_comparison
    from mlflow_dovetail.prediction_tables.pictures import read_pictures
    from mlflow_dovetail.prediction_tables.views import LARGE_IMAGES

    def images(digests: Sequence[str]) -> dict[str, bytes]:
        known: dict[str, bytes] = {}
        for one in found:
            missing = [digest for digest in digests if digest not in known]
            if missing:
                known |= one.thumbnails(missing)
                known |= read_pictures(one.folder, [digest for digest in digests[:LARGE_IMAGES] if digest in missing])
        return known

    target.write_bytes(render_comparison(compared, names=names, thumbnails=images))
    print(f"Written: {target}", file=sys.stderr)
