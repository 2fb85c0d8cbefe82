"""What `cruft update` renders gets its licence, its wheel and its requirement, or they would stay as they were.

Cruft knows this folder alone, at the commit that it renders. A bake never runs this file: pre_prompt.py leaves it out.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

answers = json.loads(r"""{{ cookiecutter | jsonify }}""")
if not answers.get("_commit"):
    sys.exit("Cannot make a project: this is a part of the template.\nLeave out `--directory template`.")

with tempfile.TemporaryDirectory() as clone:
    # Cruft has cloned the same address a moment ago, but tells a hook no place.
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", answers["_template"], clone], check=True)
    subprocess.run(["git", "-C", clone, "checkout", "--quiet", answers["_commit"]], check=True)
    sys.path.insert(0, str(Path(clone, "hooks")))

    from scaffold.update import main

    code = main({**answers, "_repo_dir": clone}, Path.cwd())
sys.exit(code)
