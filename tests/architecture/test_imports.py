"""The house's import table holds, and what holds it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from import_table import TABLE, room_of, violations

import mlflow_dovetail

ROOT = Path(mlflow_dovetail.__file__).parent


def test_floors_import_only_lower_floors_and_rooms_never_one_another():
    assert violations(ROOT) == []


def test_every_module_is_looked_at():
    rooms = {room_of(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")}
    assert {"names", "errors", "records", "store", "cli"} <= rooms <= {"", *TABLE}


PLANTED = [
    ("names.py", "import mlflow", "names may not import mlflow"),
    ("errors.py", "def f():\n    from numpy import array", "errors may not import numpy"),
    ("records.py", "from mlflow_dovetail import store", "floor 0 (records) imports floor 1 (store)"),
    ("records.py", "from .store import open", "floor 0 (records) imports floor 1 (store)"),
    ("store/a.py", "from ..cli import main", "floor 1 (store) imports floor 4 (cli)"),
    ("store/a.py", "from mlflow_dovetail.context.git import read", "floor 1 (store) imports floor 2 (context)"),
    ("journal/drain.py", "import mlflow_dovetail.git_patch", "floor 2 (journal) imports floor 2 (git_patch)"),
    ("journal/drain.py", "import mlflow", "journal may not import mlflow"),
    ("git_patch/a.py", "import mlflow_dovetail.run", "floor 2 (git_patch) imports floor 3 (run)"),
    ("dvc_link/revs.py", "import mlflow.data", "dvc_link may import mlflow in source.py only"),
    ("system_metrics/a.py", "import torch", "system_metrics may not import torch"),
    ("prediction_tables/a.py", "import torch", "prediction_tables may not import torch"),
    ("run/a.py", "from mlflow_dovetail.lightning import x", "floor 3 (run) imports floor 4 (lightning)"),
    ("cli/a.py", "from mlflow_dovetail.sweeps import x", "floor 4 (cli) imports floor 4 (sweeps)"),
    ("cli/a.py", "import mlflow", "cli may not import mlflow"),
    ("entry_points.py", "import mlflow", "entry_points may not import mlflow"),
    ("__init__.py", "from mlflow_dovetail import store", "the package's __init__ imports the room 'store'"),
    ("__init__.py", "import mlflow", "__init__ may not import mlflow"),
    ("utils.py", "import os", "the room 'utils' is not in the import table"),
    ("cli/a.py", "import mlflow_dovetail.nowhere", "imports 'nowhere', which is in no room"),
    ("cli/a.py", "if TYPE_CHECKING:\n    import mlflow", "cli may not import mlflow"),
]


@pytest.mark.parametrize(("file", "code", "complaint"), PLANTED)
def test_a_planted_bad_import_is_found(tmp_path, file, code, complaint):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(file)
    assert complaint in found[0]


ALLOWED = [
    ("store/a.py", "import mlflow, sqlite3\nfrom . import b\nfrom .b import c\nfrom mlflow_dovetail import names"),
    ("dvc_link/source.py", "import mlflow, dvc.repo"),
    ("journal/drain.py", "from mlflow_dovetail.run_folder import x\nfrom mlflow_dovetail.store import RunStore"),
    ("cli/a.py", "from mlflow_dovetail import __version__\nfrom mlflow_dovetail.cli.b import c"),
    ("records.py", "from mlflow_dovetail.errors import DovetailError"),
]


@pytest.mark.parametrize(("file", "code"), ALLOWED)
def test_what_the_house_allows_is_let_through(tmp_path, file, code):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code)
    assert violations(tmp_path) == []
