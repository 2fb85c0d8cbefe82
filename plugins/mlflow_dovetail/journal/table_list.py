"""MLflow's list of a run's tables, one tag: its pages show those that are in it.

MLflow reads and writes it whole, so that of two processes the last wins, and fails at 8,000 characters. Here lists are
joined, and what does not fit is left out: the table is among the artifacts all the same.

Source:
    `mlflow.log_table` of MLflow 3.17: `{"path", "type"}` of each, as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mlflow_dovetail import names

TAG = "mlflow.loggedArtifacts"
# What Dovetail's own tables leave free for those that a user logs.
_USERS_LENGTH = 500


def tables_among(paths: Iterable[str]) -> str:
    """The prediction tables that are among a run's artifacts, as a list that `joined` takes; empty for none."""
    tables = sorted(
        path
        for path in paths
        if path.startswith(f"{names.ARTIFACT_PREDICTIONS}/") and path.endswith(f"/{names.PREDICTIONS_LIST}")
    )
    return json.dumps([{"path": path, "type": "table"} for path in tables]) if tables else ""


def joined(known: str, new: str, *, is_users: bool) -> str:
    """What is known with what is new, as far as a tag has room; what is no list is left as it is.

    Args:
        known: The tag as the store has it; empty where it has none.
        new: More entries, or all of another process.
        is_users: Of tables that a user has logged; others leave them room.
    """
    entries, more = _entries(known or "[]"), _entries(new)
    if entries is None or more is None:  # somebody's own words
        return new if is_users else known
    longest = names.MAX_TAG_LENGTH - (0 if is_users else _USERS_LENGTH)
    length = len(json.dumps(entries))
    for entry in more:
        longer = length + len(json.dumps(entry)) + len(", ")
        if entry not in entries and longer <= longest:
            entries.append(entry)
            length = longer
    return json.dumps(entries)


def _entries(listed: str) -> list[Any] | None:
    try:
        entries = json.loads(listed)
    except ValueError:
        return None
    return entries if isinstance(entries, list) else None
