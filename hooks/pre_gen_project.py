"""Refuse bad answers before anything is rendered. Cookiecutter renders this file, then runs it in the new directory."""

import json
import sys
from pathlib import Path

answers = json.loads(r"""{{ cookiecutter | jsonify }}""")
sys.path.insert(0, str(Path(answers["_repo_dir"], "hooks")))

from scaffold.check import main  # noqa: E402  (a sibling: reachable only through the copy's path)

sys.exit(main(answers, Path.cwd()))
