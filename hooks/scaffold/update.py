"""What `cruft update` compares: the project as this commit of the template makes it, without repository and cache."""

from __future__ import annotations

import sys
from pathlib import Path

from scaffold.answers import Answers
from scaffold.errors import ScaffoldError
from scaffold.license import write_license
from scaffold.source import write_requirement


def main(answers: Answers, project: Path) -> int:
    try:
        write_license(answers, project)
        write_requirement(answers, project)
    except ScaffoldError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
