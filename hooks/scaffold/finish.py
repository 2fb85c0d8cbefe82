"""After everything is rendered."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scaffold.answers import Answers
from scaffold.cruft import write_cruft
from scaffold.data import fill_cache
from scaffold.errors import ScaffoldError
from scaffold.git import start_repository
from scaffold.license import write_license
from scaffold.source import write_requirement
from scaffold.unfinished import end, fail, give_up, take_over


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
        "  mlflow ui --workers 1\n"
    )


def unwritten(error: OSError, project: Path) -> ScaffoldError:
    """What stands for a file that cannot be written, on a full disk for example."""
    remedy = "Make room there, or give cookiecutter another place with --output-dir."
    return ScaffoldError(f"Cannot write the project to {project.parent}", f"{error}.", remedy)


def main(answers: Answers, project: Path) -> int:
    repo = Path(answers["_repo_dir"])
    cookiecutter = take_over(repo)
    try:
        fill_cache(project)
        write_license(answers, project)
        write_requirement(answers, project)
        write_cruft(answers, project)
        start_repository(project)
    except ScaffoldError as error:
        sys.stderr.write(f"{error}\n")
        fail(repo, cookiecutter)
        return 1
    except OSError as error:
        sys.stderr.write(f"{unwritten(error, project)}\n")
        fail(repo, cookiecutter)
        return 1
    except KeyboardInterrupt:  # cookiecutter has it too, and says so
        give_up(repo, cookiecutter)
        return 1
    end(repo)
    sys.stdout.write(next_steps(answers, project))
    return 0
