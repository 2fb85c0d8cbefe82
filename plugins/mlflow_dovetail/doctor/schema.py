"""Which version of MLflow's tables a database has, against those that the installed MLflow knows.

MLflow's migrations name themselves and the one before in their text, so that MLflow need not be imported for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from mlflow_dovetail.doctor.records import Finding, problem

_REVISION = re.compile(r"^(revision|down_revision)\s*(?::[^=]+)?=\s*[\"'](\w+)[\"']", re.MULTILINE)


def compare(stored: Sequence[tuple[str]], path: Path) -> Iterator[Finding]:
    """What the version that a database has means for this MLflow; nothing when it is the same.

    Args:
        stored: The rows of `alembic_version`.
        path: Of the database.
    """
    known, head = read_revisions()
    version = stored[0][0] if stored else ""
    if not head or version == head:
        return
    if version in known:
        yield problem(
            f"The database {path} was made by an older MLflow.",
            f"Its schema is {version}, and this MLflow's {head}: it refuses to open it, or changes it without asking.",
            f"Copy it aside, then run: mlflow db upgrade sqlite:///{path}",
        )
    else:
        yield problem(
            f"The database {path} was made by a newer MLflow.",
            f"Its schema {version or '(none)'} is not known to the one here.",
            "Install the project's requirements.txt, or the MLflow that has made it: pip install --upgrade mlflow",
        )


def read_revisions() -> tuple[frozenset[str], str]:
    """The schemas that the installed MLflow knows, and its own; none where there is no MLflow."""
    spec = find_spec("mlflow")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    texts = [
        path.read_text("utf-8")
        for folder in folders
        for path in Path(folder, "store/db_migrations/versions").glob("*.py")
    ]
    found = [dict(_REVISION.findall(text)) for text in texts]
    known = {one["revision"] for one in found if "revision" in one}
    heads = known - {one.get("down_revision") for one in found}
    return frozenset(known), heads.pop() if len(heads) == 1 else ""
