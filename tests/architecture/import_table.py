"""The import table of the house, and the reading of a tree by it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "mlflow_dovetail"


@dataclass(frozen=True)
class Room:
    """A module or subpackage of the package: its floor, and the third-party packages that it may import."""

    floor: int
    third_party: frozenset[str] = frozenset()


def room(floor: int, *third_party: str) -> Room:
    return Room(floor, frozenset(third_party))


# Rooms of later releases stand here already, so that they are held from their first line.
TABLE = {
    "names": room(0),
    "records": room(0),
    "errors": room(0),
    "redact": room(0),
    "repository": room(0),
    "cgroup": room(0),
    "run_folder": room(0, "msgspec"),
    "store": room(1, "mlflow", "sqlalchemy", "alembic", "filelock", "dotenv"),
    "context": room(2),
    "journal": room(2, "msgspec", "filelock"),
    "git_patch": room(2, "msgspec"),
    "dvc_link": room(2, "dvc", "dvc_data", "mlflow", "msgspec"),
    "system_metrics": room(2, "pynvml", "psutil"),
    "prediction_tables": room(2, "pyarrow", "PIL", "numpy", "msgspec", "scipy", "pandas", "polars", "jinja2", "xxhash"),
    "doctor": room(3, "dvc", "dotenv", "packaging", "msgspec", "torch"),
    "run": room(3, "mlflow", "filelock", "msgspec", "omegaconf", "yaml", "pyarrow", "polars"),
    "lightning": room(4, "pytorch_lightning", "lightning", "torch", "mlflow"),
    "sweeps": room(4, "hydra", "hydra_plugins", "omegaconf", "optuna", "sqlalchemy", "mlflow", "msgspec"),
    "entry_points": room(5),  # it loads the faces by name
    "cli": room(4),
    "__main__": room(5),
}

# What the package's own `__init__` names as the public surface, and loads at the first use.
PUBLIC = {"run"}

# In a room of several files, where the house allows a package to one thing only: MLflow's dataset source.
ONLY_IN_FILE = {("dvc_link", "mlflow"): ("source.py", "dataset_source.py")}


def violations(root: Path) -> list[str]:
    """Every import under `root`, a folder laid out as the package, that the table does not allow.

    Imports inside functions and under TYPE_CHECKING count too: the floor is about knowledge, not about load time.
    """
    return [
        f"{path.relative_to(root)}:{line}: {complaint}"
        for path in sorted(root.rglob("*.py"))
        for line, imported in imports(path, root)
        if (complaint := _complaint(path.relative_to(root), imported))
    ]


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, path, root)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def room_of(relative: Path) -> str:
    """The room that a file belongs to; "" for the package's own `__init__`."""
    first = relative.parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def _base(node: ast.ImportFrom, path: Path, root: Path) -> str:
    if not node.level:
        return node.module or ""
    package = [PACKAGE, *path.relative_to(root).parent.parts]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def _complaint(relative: Path, imported: str) -> str:
    here = room_of(relative)
    if here and here not in TABLE:
        return f"the room {here!r} is not in the import table"
    top, *rest = imported.split(".")
    if top == PACKAGE:
        return _complaint_within(here, rest[0] if rest else "")
    return _complaint_outside(relative, here, top)


def _complaint_within(here: str, there: str) -> str:
    if not here and there in PUBLIC:
        return ""
    # `from mlflow_dovetail import __version__` reads the package's own __init__, which imports nothing.
    if there not in TABLE or there == here:
        return "" if there in (here, "__version__") else f"imports {there!r}, which is in no room"
    if not here:
        return f"the package's __init__ imports the room {there!r}"
    if TABLE[there].floor == 0 and TABLE[here].floor == 0:
        return ""  # leaves are one floor of plain facts: a record may use an error
    if TABLE[there].floor < TABLE[here].floor:
        return ""
    return f"floor {TABLE[here].floor} ({here}) imports floor {TABLE[there].floor} ({there})"


def _complaint_outside(relative: Path, here: str, top: str) -> str:
    if top in sys.stdlib_module_names:
        return ""
    if not here or top not in TABLE[here].third_party:
        return f"{here or '__init__'} may not import {top}"
    files = ONLY_IN_FILE.get((here, top))
    return f"{here} may import {top} in {files[0]} only" if files and relative.name not in files else ""
