#!/usr/bin/env python3
"""Write docs/reference/ from the code: `python docs/make_reference.py`. A test holds that it is up to date."""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import mlflow_dovetail.names
from mlflow_dovetail import cli, errors
from mlflow_dovetail.lightning import speed
from mlflow_dovetail.run import system_watch
from mlflow_dovetail.system_metrics import gpu_fields, host, rules_table

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/make_reference.py; do not edit. -->\n\n"
# What a program imports from where: all that the module states, or these names of it.
PYTHON = {
    "mlflow_dovetail": (),
    "mlflow_dovetail.lightning": (),
    "mlflow_dovetail.sweeps": (),
    "mlflow_dovetail.sweeps.sweeper": ("StudySweeper",),
    "mlflow_dovetail.prediction_tables": (
        *("Class", "Image", "Json", "Number", "Probabilities", "Text"),
        *("All", "First", "PerClass", "RandomCount", "RandomShare", "Worst"),
    ),
    "mlflow_dovetail.store": ("RunStore", "open", "project_root", "resolve_uri"),
}
MADE_BY_OTHERS = ("Run", "RunStore")
# What Lightning and Hydra call, beside `on_...`.
HOOKS = ("after_save_checkpoint", "begin", "finalize", "setup", "sweep", "teardown")


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8", newline="\n")


def pages() -> dict[str, str]:
    """File name to text."""
    return {
        "command-line.md": command_line(),
        "python.md": python(),
        "names.md": stored_names(),
        "system-metrics.md": system_metrics(),
    }


def command_line() -> str:
    """The help of `dovetail` and of each of its verbs."""
    os.environ["COLUMNS"] = "100"  # argparse wraps to the terminal
    parser = cli.build_parser(tuple(cli.COMMANDS))
    sections = [f"# Command line\n\n```\n{parser.format_help()}```\n"]
    for verb, subparser in _verbs(parser).items():
        sections.append(f"## dovetail {verb}\n\n```\n{subparser.format_help()}```\n")
    return NOTE + "\n".join(sections)


def python() -> str:
    """Every public name with its signature and its docstring."""
    parts = ["# Python\n"]
    for module, chosen in PYTHON.items():
        parts.append(f"## {module}\n")
        stated = chosen or [name for name in import_module(module).__all__ if not name.startswith("__")]
        for name in stated:
            parts += _described(name, getattr(import_module(module), name))
    tree = (inspect.getdoc(errors) or "").partition("\n\n")
    return NOTE + "\n".join([*parts, f"## Errors\n\n{tree[0]}\n\n```text\n{tree[2]}\n```\n"])


def _described(name: str, thing: object) -> Iterator[str]:
    yield f"### {name}\n\n```python\n{_signature(name, thing)}\n```\n\n{_prose(thing)}\n"
    if rows := list(_members(thing)) if inspect.isclass(thing) else []:
        yield "| | |\n|---|---|\n" + "\n".join(f"| `{call}` | {meaning} |" for call, meaning in rows) + "\n"


def _signature(name: str, thing: object) -> str:
    """As a program writes it, a parameter a line where it is long."""
    if name in MADE_BY_OTHERS:
        return f"class {name}"
    annotation = r"""(: |-> )(?P<quote>['"])(.*?)(?P=quote)(?=[,) ]|$)"""
    whole = name + re.sub(annotation, r"\1\3", str(inspect.signature(thing))).removesuffix(" -> None")
    if len(whole) <= 100:
        return whole
    inside, _, returned = whole.removeprefix(f"{name}(").rpartition(")")
    return f"{name}(\n    " + re.sub(r", (?=\w+: |\*, )", ",\n    ", inside) + f",\n){returned}"


def _members(thing: type) -> Iterator[tuple[str, str]]:
    """What a user calls, with the first line of its docstring."""
    for name, value in vars(thing).items():
        if name.startswith(("_", "on_")) or name in HOOKS or not inspect.getdoc(value):
            continue
        function = getattr(value, "__func__", value)
        call = ""
        if inspect.isfunction(function):
            call = f"({', '.join(list(inspect.signature(function).parameters)[1:])})"
        elif not isinstance(value, property):
            continue
        yield name + call, (inspect.getdoc(value) or "").splitlines()[0]


def _prose(thing: object) -> str:
    """A docstring as Markdown: its sections stand out, and those of names are lists."""
    lines: list[str] = []
    section = ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        if heading := re.fullmatch(r"(Args|Returns|Raises|Source):", line):
            section = heading[1]
            lines.append(f"**{section}**\n")
        elif section and (entry := re.fullmatch(r" {4}(\w+): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif section in ("Args", "Raises"):
            lines.append(f"  {line.strip()}".rstrip())
        else:
            lines.append(line.removeprefix("    ") if section else line)
    return "\n".join(lines)


def stored_names() -> str:
    """Every constant of `names.py`, under the comment that stands above it there."""
    source = Path(mlflow_dovetail.names.__file__).read_text(encoding="utf-8")
    lines = source.splitlines()
    doc = ast.get_docstring(ast.parse(source)) or ""
    parts = ["# Stored names\n", doc + "\n"]
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id.startswith("MAX_"):
                continue
            above = lines[node.lineno - 2]
            if above.startswith("#") or not above:
                parts.append(f"\n## {above.lstrip('# ').rstrip('.') or 'Version'}\n\n| constant | value |\n|---|---|")
            parts.append(f"| `{node.targets[0].id}` | `{ast.literal_eval(node.value)}` |")
    return NOTE + "\n".join(parts) + "\n"


def system_metrics() -> str:
    """Every metric under `system/`, and every rule of the advice."""
    sections = {
        "Host": host.FIELDS.items(),
        "A GPU, or MIG instance: `system/gpu_<index>_...`, `system/gpu_<index>_mig_<n>_...`": (
            (metric.name, f"{metric.meaning}, {metric.unit}".rstrip(", ")) for metric in gpu_fields.METRICS
        ),
        "Training, with Lightning": ((key, f"{meaning}, {unit}") for key, (unit, meaning) in speed.FIELDS.items()),
        "Totals, at the end of a run": system_watch.AT_THE_END.items(),
    }
    parts = [
        "# System metrics\n\nAll begin with `system/`; another machine of the run is `system/<machine>/`. "
        "What a device or a system does not tell is absent. `<key>_max` is the maximum of a window.\n"
    ]
    for heading, rows in sections.items():
        parts.append(f"## {heading}\n\n| metric | |\n|---|---|")
        parts.append("\n".join(f"| `{key}` | {meaning[0].lower()}{meaning[1:]} |" for key, meaning in rows) + "\n")
    rules = "\n".join(f"| `{name}` | {rule} |" for name, rule in rules_table())
    return NOTE + "\n".join([*parts, f"## Advice\n\n| rule | |\n|---|---|\n{rules}"]) + "\n"


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(next(actions).choices)


if __name__ == "__main__":
    main()
