"""`.cruft.json`: which commit of which template made the project, so that `cruft check` and `cruft update` work."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from scaffold.answers import Answers
from scaffold.git import run_git
from scaffold.source import REMOTE, is_remote, origin_of, without_credentials

# What the project's own commands write, and its data: an update of the template has nothing to say there.
SKIPPED = ("data/raw", "dvc.lock", "params.yaml", "metrics.json", "evaluation.json", "mlflow_run.json")


def head_of(directory: Path) -> str:
    """The commit of a repository whose root this is; empty for anything else."""
    if not (directory / ".git").exists():
        return ""
    return run_git(directory, "rev-parse", "--verify", "--quiet", "HEAD").stdout.strip()


def local_template(template: str, commit: str, project: Path) -> str:
    """An absolute path for a relative one. The hook is told no starting directory: try the likely ones."""
    for start in (os.environ.get("PWD", ""), str(project.parent)):
        candidate = Path(start, template).resolve()
        if head_of(candidate) == commit:
            return str(candidate)
    return template


def template_address(answers: Answers, commit: str, project: Path) -> str:
    template, repo = answers["_template"], Path(answers["_repo_dir"])
    origin = origin_of(repo)
    if is_remote(template, origin):
        return without_credentials(origin)
    if template.startswith(("file:", "git+file:")) or REMOTE.match(template):
        return without_credentials(template)
    return local_template(template, commit, project)


def write_cruft(answers: Answers, project: Path) -> None:
    """Write the file; a template without git (a zip) has no commit to name and gets none.

    Source:
        cruft 2, `.cruft.json`; `directory` because cruft reads the template without pre_prompt's move.
    """
    commit = head_of(Path(answers["_repo_dir"]))
    if not commit:
        sys.stderr.write("Note: the template came without git, so there is no .cruft.json to update from.\n")
        return
    address = template_address(answers, commit, project)
    told = {key: value for key, value in answers.items() if key not in ("_output_dir", "_repo_dir", "_checkout")}
    state = {
        "template": address,
        "commit": commit,
        "checkout": answers["_checkout"],
        "context": {"cookiecutter": {**told, "_template": address}},
        "directory": "template",
        "skip": list(SKIPPED),
    }
    text = json.dumps(state, indent=2, ensure_ascii=False) + "\n"
    (project / ".cruft.json").write_text(text, encoding="utf-8", newline="\n")
