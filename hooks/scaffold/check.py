"""Before anything is rendered."""

from __future__ import annotations

import sys
from pathlib import Path

from scaffold.answers import Answers, check_answers
from scaffold.copy import remove_temporary_copy
from scaffold.errors import ScaffoldError
from scaffold.existing import check_existing, check_room
from scaffold.unfinished import begin


def main(answers: Answers, project: Path) -> int:
    repo = Path(answers["_repo_dir"])
    try:
        check_answers(answers, repo)
        check_existing(project, repo)
        check_room(project)
    except ScaffoldError as error:
        sys.stderr.write(f"{error}\n")
        remove_temporary_copy(repo)
        return 1
    begin(project, repo)
    return 0
