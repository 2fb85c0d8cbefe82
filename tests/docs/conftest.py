"""Commands in documents are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL

import pytest

# What a person does while a command runs: look at the page that `mlflow ui` serves, and stop it; wait for a queue.
BY_HAND = r"""
look_at_ui() {
    "$@" & ui=$!
    for _ in $(seq 90); do
        if python "$LOOK" "http://127.0.0.1:$MLFLOW_PORT/" "<title>MLflow"; then
            kill $ui
            wait $ui || true
            return 0
        fi
        kill -0 $ui || return 1
        sleep 1
    done
    kill $ui
    return 1
}
until_done() {
    for _ in $(seq 150); do
        state=$("$@")
        echo "$state"
        [[ $state == *Queued* || $state == *Running* ]] || return 0
        sleep 2
    done
    return 1
}
"""
LOOK = """
import sys, urllib.request
try:
    page = urllib.request.urlopen(sys.argv[1], timeout=5).read().decode()
except OSError:
    sys.exit(1)
sys.exit(sys.argv[2] not in page)
"""
Shell = Callable[..., str]


def bash_blocks(document: Path) -> list[list[str]]:
    """The commands of each ```bash block, without their comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [[re.sub(r"\s{2,}#.*", "", line).strip() for line in block.splitlines() if line.strip()] for block in blocks]


def script(blocks: list[list[str]]) -> str:
    """One shell session; each block starts in the directory of the first."""
    lines = ["set -eo pipefail", BY_HAND, "start=$PWD"]
    for block in blocks:
        lines.append('cd "$start"')
        for command in block:
            lines += [f"printf '\\n$ %s\\n' {shell_quote(command)}", by_hand(command)]
    return "\n".join(lines)


def by_hand(command: str) -> str:
    if command.startswith("mlflow ui"):
        return f"look_at_ui {command}"
    return f"until_done {command}" if command.startswith("dvc queue status") else command


def shell_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def free_port() -> str:
    """Where `mlflow ui` serves in these tests: MLFLOW_PORT says so, as two of them may run at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def shell(bake_environment: dict[str, str], tmp_path: Path, free_port: str) -> Shell:
    """Run blocks of commands in a home of their own; a failure shows all that was printed."""
    home = tmp_path / "home"
    home.mkdir()
    # DVC's git reads this file and no GIT_CONFIG_GLOBAL.
    shutil.copy(bake_environment["GIT_CONFIG_GLOBAL"], home / ".gitconfig")
    real_home = Path.home()
    # A new home must not lose what this machine's pip is told, nor download everything again.
    kept = {"XDG_CONFIG_HOME": str(real_home / ".config"), "PIP_CACHE_DIR": str(real_home / ".cache" / "pip")}
    environment = {**kept, **bake_environment, "HOME": str(home), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment["MLFLOW_PORT"] = free_port
    (tmp_path / "look.py").write_text(LOOK)
    environment["LOOK"] = str(tmp_path / "look.py")

    def run(blocks: list[list[str]], directory: Path, **variables: str) -> str:
        bash = shutil.which("bash")
        assert bash, "bash is needed to run the documents' commands"
        with (tmp_path / "output.txt").open("w+b") as output:
            session = [bash, "-c", script(blocks)]
            done = subprocess.run(
                session, cwd=directory, env={**environment, **variables}, stdout=output, stderr=output, stdin=DEVNULL
            )
            output.seek(0)
            text = output.read().decode(errors="replace")
        assert done.returncode == 0, text[-8000:]
        return text

    return run


@pytest.fixture
def own_programs() -> str:
    """A PATH on which this environment's programs come first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
