"""METADATA and entry_points.txt of a wheel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Tables = dict[str, dict[str, Any]]


def flat_extra(extras: dict[str, list[str]], extra: str, distribution: str) -> Iterator[str]:
    """The requirements of an extra, with those that it takes from its siblings in place."""
    for requirement in extras[extra]:
        sibling = re.fullmatch(rf"{re.escape(distribution)}\[([\w,\s-]+)\]", requirement)
        if sibling is None:
            yield requirement
            continue
        for name in sibling[1].split(","):
            yield from flat_extra(extras, name.strip(), distribution)


def with_extra(requirement: str, extra: str) -> str:
    """Add the marker of an extra to a requirement, which may have one."""
    name, _, marker = (part.strip() for part in requirement.partition(";"))
    condition = f"({marker}) and extra == '{extra}'" if marker else f"extra == '{extra}'"
    return f"{name}; {condition}"


def requirement_fields(tables: Tables) -> Iterator[tuple[str, str]]:
    project, extras = tables["project"], tables.get("project.optional-dependencies", {})
    for requirement in sorted(project.get("dependencies", [])):
        yield "Requires-Dist", requirement
    for extra in sorted(extras):
        yield "Provides-Extra", extra
        for requirement in sorted(set(flat_extra(extras, extra, project["name"]))):
            yield "Requires-Dist", with_extra(requirement, extra)


def fields(tables: Tables) -> Iterator[tuple[str, str]]:
    project = tables["project"]
    yield "Metadata-Version", "2.4"
    yield "Name", project["name"]
    yield "Version", project["version"]
    yield "Summary", project["description"]
    yield "Author", ", ".join(author["name"] for author in project.get("authors", []))
    yield "License-Expression", project["license"]
    for file in project.get("license-files", []):
        yield "License-File", file
    yield "Keywords", ",".join(sorted(project.get("keywords", [])))
    for classifier in project.get("classifiers", []):
        yield "Classifier", classifier
    yield "Requires-Python", project["requires-python"]
    yield from requirement_fields(tables)
    yield "Description-Content-Type", "text/markdown"


def metadata(tables: Tables, description: str) -> str:
    """Render METADATA.

    Source:
        Core metadata 2.4; the order of hatchling.
    """
    return "".join(f"{name}: {value}\n" for name, value in fields(tables)) + f"\n{description}"


def entry_points(tables: Tables) -> str:
    """Render entry_points.txt: the scripts, then each group."""
    prefix = "project.entry-points."
    groups = {"console_scripts": tables.get("project.scripts", {})}
    groups |= {name.removeprefix(prefix): table for name, table in tables.items() if name.startswith(prefix)}
    blocks = (
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in sorted(table.items()))
        for group, table in sorted(groups.items())
        if table
    )
    return "\n".join(blocks)
