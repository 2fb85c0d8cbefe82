"""The tables of pyproject.toml that a wheel needs, read without tomllib, which Python 3.10 lacks."""

from __future__ import annotations

import ast
import re
from typing import Any

HEADER = re.compile(r"\[([^\[\]]+)\]\s*(#.*)?")
ENTRY = re.compile(r'"?([\w.-]+)"?\s*=\s*(.*)', re.DOTALL)
INLINE_KEY = re.compile(r"([{,]\s*)([\w-]+)\s*=\s*")


def literal(text: str) -> object:
    """Read a value: TOML's strings, numbers and arrays are Python's too, inline tables nearly."""
    if re.match(r"\[?\s*\{", text):
        text = INLINE_KEY.sub(r'\1"\2": ', text)
    return ast.literal_eval(text)


def read_entry(lines: list[str]) -> tuple[str, object]:
    """Take one `key = value` off the front of `lines`, over as many lines as it needs."""
    text = lines.pop(0)
    while True:
        entry = ENTRY.fullmatch(text.strip())
        if entry is None:
            raise ValueError(f"pyproject.toml: no `key = value` in {text!r}")
        try:
            return entry[1], literal(entry[2])
        except SyntaxError:
            if not lines:
                raise
            text += "\n" + lines.pop(0)


def read_project(text: str, prefixes: tuple[str, ...] = ("project",)) -> dict[str, dict[str, Any]]:
    """Read every table whose name begins with one of the prefixes.

    Args:
        text: A pyproject.toml.
        prefixes: Other tables may hold what is no Python literal.

    Returns:
        Table name, as written without quotes, to its entries.
    """
    tables: dict[str, dict[str, Any]] = {}
    name, lines = "", text.splitlines()
    while lines:
        line = lines[0].strip()
        header = HEADER.fullmatch(line)
        if header:
            name = header[1].replace('"', "").strip()
        if header or not line or line.startswith("#") or not name.startswith(prefixes):
            lines.pop(0)
            continue
        key, value = read_entry(lines)
        tables.setdefault(name, {})[key] = value
    return tables
