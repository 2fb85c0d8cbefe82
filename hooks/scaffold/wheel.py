"""Build the wheel of mlflow-dovetail with the standard library: cookiecutter's interpreter may have no pip."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from pathlib import Path
from typing import Any

from scaffold.errors import ScaffoldError
from scaffold.metadata import entry_points, metadata
from scaffold.pyproject import read_project

# The same input gives the same bytes: hatchling's time, and no order or mode of the file system.
TIME = (2020, 2, 2, 0, 0, 0)
WHEEL = "Wheel-Version: 1.0\nGenerator: dovetail-scaffold\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
LEFT_OUT = {"__pycache__"}


def package_files(repo: Path, tables: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    """Name in the wheel to content, for each package that the build backend takes too."""
    files: dict[str, bytes] = {}
    for package in tables["tool.hatch.build.targets.wheel"]["packages"]:
        root = repo / package
        found = (p for p in root.rglob("*") if p.is_file() and not LEFT_OUT & set(p.parts) and p.suffix != ".pyc")
        files |= {path.relative_to(root.parent).as_posix(): path.read_bytes() for path in found}
    return files


def info_files(repo: Path, tables: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    project = tables["project"]
    description = (repo / project["readme"]).read_text(encoding="utf-8")
    files = {
        "METADATA": metadata(tables, description).encode(),
        "WHEEL": WHEEL.encode(),
        "entry_points.txt": entry_points(tables).encode(),
    }
    return files | {f"licenses/{name}": (repo / name).read_bytes() for name in project["license-files"]}


def content_hash(files: dict[str, bytes]) -> str:
    """A local version: pip leaves an installed wheel in place when a changed one has the same version."""
    parts = (part for name, content in files.items() for part in (name.encode(), content))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:8]


def record(files: dict[str, bytes], name: str) -> bytes:
    def line(path: str, content: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        return f"{path},sha256={digest},{len(content)}\n"

    return "".join([*(line(path, files[path]) for path in sorted(files)), f"{name},,\n"]).encode()


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)


def build_wheel(repo: Path, target: Path) -> Path:
    """Build the wheel of the distribution in `repo`.

    Args:
        repo: A tree with pyproject.toml and what it names.
        target: Directory for the wheel; made when missing.

    Returns:
        The wheel; its version ends in a hash of its content (`0.1.0+1a2b3c4d`).

    Raises:
        ScaffoldError: The tree lacks a file.

    Source:
        The binary distribution format, version 1.0.
    """
    try:
        tables = read_project((repo / "pyproject.toml").read_text(encoding="utf-8"), ("project", "tool.hatch"))
        packages = dict(sorted(package_files(repo, tables).items()))
        tables["project"]["version"] += f"+{content_hash(packages)}"
        stem = re.sub(r"[-_.]+", "_", tables["project"]["name"]) + "-" + tables["project"]["version"]
        info = {f"{stem}.dist-info/{name}": content for name, content in sorted(info_files(repo, tables).items())}
        files = {**packages, **info}
    except FileNotFoundError as error:
        raise ScaffoldError(
            "Cannot build the wheel of mlflow-dovetail",
            f"the template lacks {Path(error.filename).name}.",
            "Bake from a whole clone, or answer `dovetail_source='mlflow-dovetail[all]'`.",
        ) from error
    files[f"{stem}.dist-info/RECORD"] = record(files, f"{stem}.dist-info/RECORD")
    target.mkdir(parents=True, exist_ok=True)
    wheel = target / f"{stem}-py3-none-any.whl"
    write_zip(wheel, files)
    return wheel
