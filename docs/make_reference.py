#!/usr/bin/env python3
"""Write docs/reference/ from the code: `python docs/make_reference.py`. A test holds that it is up to date."""

from __future__ import annotations

import argparse
import ast
import os
from pathlib import Path

import mlflow_dovetail.names
from mlflow_dovetail import cli
from mlflow_dovetail.lightning import speed
from mlflow_dovetail.run import system_watch
from mlflow_dovetail.system_metrics import gpu_fields, host, rules_table

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/make_reference.py; do not edit. -->\n\n"


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8", newline="\n")


def pages() -> dict[str, str]:
    """File name to text."""
    return {"command-line.md": command_line(), "names.md": stored_names(), "system-metrics.md": system_metrics()}


def command_line() -> str:
    """The help of `dovetail` and of each of its verbs."""
    os.environ["COLUMNS"] = "100"  # argparse wraps to the terminal
    parser = cli.build_parser(tuple(cli.COMMANDS))
    sections = [f"# Command line\n\n```\n{parser.format_help()}```\n"]
    for verb, subparser in _verbs(parser).items():
        sections.append(f"## dovetail {verb}\n\n```\n{subparser.format_help()}```\n")
    return NOTE + "\n".join(sections)


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
