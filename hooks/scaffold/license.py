"""The LICENSE of the chosen licence."""

from __future__ import annotations

from pathlib import Path

from scaffold.answers import Answers

TEXTS = Path(__file__).parent / "licenses"


def write_license(answers: Answers, project: Path) -> None:
    text = (TEXTS / f"{answers['__license_name']}.txt").read_text(encoding="utf-8")
    text = text.replace("@YEAR@", answers["__year"]).replace("@AUTHOR@", answers["author"])
    (project / "LICENSE").write_text(text, encoding="utf-8", newline="\n")
