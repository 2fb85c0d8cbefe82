"""`dovetail patch show|verify|apply RUN`: what a run's code was beside its commit."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail.cli.page import escaped, wants_colour
from mlflow_dovetail.errors import DovetailError

if TYPE_CHECKING:
    from mlflow_dovetail.git_patch import CodeState, Proof
    from mlflow_dovetail.run.kept_code import KeptCode

_PURPOSES = {
    "show": "print it, coloured and paged on a terminal",
    "verify": "apply it in a temporary index of this repository, and compare the tree with the run's",
    "apply": "apply it to the files of this work tree, all or nothing; the index stays as it is",
}
_BOLD, _CYAN, _GREEN, _RED = b"1", b"36", b"32", b"31"
_COLOURS = (
    *((header, _BOLD) for header in (b"diff --git ", b"+++ ", b"--- ")),
    *((b"@@", _CYAN), (b"+", _GREEN), (b"-", _RED)),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows `dovetail patch`."""
    actions = "\n".join(f"  {action:8}{purpose}" for action, purpose in _PURPOSES.items())
    parser.description = f"{parser.description}\n\n{actions}"
    parser.add_argument("action", choices=tuple(_PURPOSES), help="see above")
    parser.add_argument("run", metavar="RUN", help="a run id or token, the beginning of one, or a unique run name")
    parser.add_argument("--stat", action="store_true", help="show: only how much of each file has changed")


def run(arguments: argparse.Namespace) -> int:
    """Do it.

    Raises:
        DovetailError: There is no such run; it has no code; or its patch does not apply here, or gives another tree.
    """
    from mlflow_dovetail import git_patch
    from mlflow_dovetail.run.kept_code import KeptCode

    with KeptCode(arguments.run, arguments.tracking_uri) as code:
        if arguments.action == "show":
            return _show(code, only_stat=arguments.stat, as_json=arguments.json)
        act = git_patch.verify if arguments.action == "verify" else git_patch.apply
        proofs = act(code.state, Path.cwd(), code.patch)
    done = "gives" if arguments.action == "verify" else "applied: with its commit it gives"
    tell_proofs(code.run_id, code.state, proofs, done, as_json=arguments.json)
    return 0


def tell_proofs(run_id: str, state: CodeState, proofs: Collection[Proof], done: str, *, as_json: bool) -> None:
    """What was found out about each repository, and what the run's code lacks."""
    if as_json:
        found = [proof._asdict() for proof in proofs]
        print(json.dumps({"run_id": run_id, "verdict": state.verdict, "repositories": found}, indent=2))
        return
    for proof in proofs:
        place = f"{escaped(proof.path)}: " if proof.path else ""
        kind = "the exact tree" if proof.is_exact else "the tree without what stays on the run's machine,"
        print(f"{place}{proof.commit[:12] or 'no commit'} + patch {done} {kind} {proof.tree}")
    tell_missing(state, {proof.path for proof in proofs if proof.is_exact})


def tell_missing(state: CodeState, exact: Collection[str] = ()) -> None:
    """What is not in the patches, on standard error; of the repositories in `exact` only what was not captured."""
    for code in state.repositories:
        for withheld in code.withheld if code.path not in exact else ():
            where = f", line {withheld.line}" if withheld.line else ""
            print(f"dovetail: {escaped(withheld.path)} stays on its machine: {withheld.rule}{where}", file=sys.stderr)
        for left_out in code.left_out:
            print(f"dovetail: {escaped(left_out.path)} was not captured: {left_out.why}", file=sys.stderr)


def _show(code: KeptCode, *, only_stat: bool, as_json: bool) -> int:
    files = {one.path: code.shared(one.patch) for one in code.state.repositories if one.patch}
    patches = {path: file for path, file in files.items() if file}
    if as_json:
        import msgspec

        texts = {path: file.read_bytes().decode("utf-8", "backslashreplace") for path, file in patches.items()}
        told = {"run_id": code.run_id, **msgspec.to_builtins(code.state), "patches": texts}
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return 0
    print(f"dovetail: {escaped(code.state.verdict)}", file=sys.stderr)
    tell_missing(code.state)
    content = b"".join(
        (f"# submodule {path}\n".encode() if path else b"") + (_stat(file) if only_stat else file.read_bytes())
        for path, file in patches.items()
    )
    if not content:
        print("dovetail: nothing that may be shown was changed since the commit", file=sys.stderr)
    elif sys.stdout.isatty():
        _page(_for_terminal(content, colour=wants_colour() and not only_stat))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    return 0


def _stat(file: Path) -> bytes:
    done = subprocess.run(["git", "apply", "--stat", "--", str(file)], capture_output=True, check=False)
    if done.returncode:
        raise DovetailError("Cannot count the changes.", done.stderr.decode(errors="replace").strip(), "Omit --stat.")
    return done.stdout


def _for_terminal(patch: bytes, *, colour: bool) -> bytes:
    """With a terminal's colours; the control characters that are in the patch are shown, never sent."""
    lines = []
    for line in patch.split(b"\n"):
        shown = escaped(line.decode("utf-8", "backslashreplace"), keep="\t").encode()
        code = next((code for begins, code in _COLOURS if line.startswith(begins)), b"") if colour else b""
        lines.append(b"\033[%sm%s\033[0m" % (code, shown) if code else shown)
    return b"\n".join(lines)


def _page(content: bytes) -> None:
    pager = shlex.split(os.environ.get("PAGER", "less"))
    try:
        process = subprocess.Popen(pager, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ})
    except (OSError, IndexError):  # no pager
        sys.stdout.buffer.write(content)
        return
    with process, suppress(BrokenPipeError):
        process.communicate(content)
