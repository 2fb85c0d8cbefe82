"""The process of one check: `python -m mlflow_dovetail.doctor.child '["git", "", FOLDER, URI]'`.

It prints a line of JSON for each thing it has found, and for each step that may hang, as soon as it is known.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from mlflow_dovetail import store
from mlflow_dovetail.doctor.records import Finding, Place, Step, problem
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.redact import mask_text


def main(given: str) -> None:
    """Run one check."""
    out = _own_output()
    module, part, folder, tracking_uri = json.loads(given)
    try:
        os.chdir(folder)
        place = Place(Path(folder), store.project_root(), tracking_uri, part)
        for told in importlib.import_module(f"mlflow_dovetail.doctor.{module}").check(place):
            _tell(out, told)
    except DovetailError as error:
        _tell(out, Finding("problem", error.what, error.why, error.remedy))
    except Exception as error:  # noqa: BLE001 - what goes wrong in a check is a finding
        _tell(out, _failed(error))
    out.flush()
    os._exit(0)  # threads that still wait for a network are left


def _own_output() -> TextIO:
    """Standard output for findings alone: what plugins print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _tell(out: TextIO, told: Finding | Step) -> None:
    out.write(json.dumps(asdict(told)) + "\n")
    out.flush()


def _failed(error: Exception) -> Finding:
    what = mask_text((str(error).splitlines() or [""])[0][:300])
    return problem(
        "This check has failed.",
        f"{type(error).__name__}: {what}",
        "If the words do not name something of yours, report them as a fault of Dovetail.",
    )


if __name__ == "__main__":
    main(sys.argv[1])
