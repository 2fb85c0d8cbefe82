"""After everything is rendered."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scaffold.answers import Answers
from scaffold.copy import remove_temporary_copy
from scaffold.cruft import write_cruft
from scaffold.data import fill_cache
from scaffold.errors import ScaffoldError
from scaffold.git import start_repository
from scaffold.license import write_license
from scaffold.source import write_requirement


def next_steps(answers: Answers, project: Path) -> str:
    start = Path(os.environ.get("PWD", ""))
    here = os.path.relpath(project, start) if project.is_relative_to(start) else str(project)
    python, activate = "python3", ". .venv/bin/activate"
    if os.name == "nt":
        python, activate = "py", r".venv\Scripts\activate"
    return (
        f"\n{answers['project_name']} is ready. Next:\n\n"
        f'  cd "{here}"\n'
        f"  {python} -m venv .venv && {activate} && pip install -r requirements.txt\n"
        "  dvc repro\n"
        "  mlflow ui\n"
    )


def main(answers: Answers, project: Path) -> int:
    try:
        fill_cache(project)
        write_license(answers, project)
        write_requirement(answers, project)
        write_cruft(answers, project)
        start_repository(project)
    except ScaffoldError as error:
        sys.stderr.write(f"{error}\n")
        remove_temporary_copy(Path(answers["_repo_dir"]))
        return 1
    sys.stdout.write(next_steps(answers, project))
    return 0
