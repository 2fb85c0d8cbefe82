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

    if arguments.stat and arguments.action != "show":
        print("dovetail: --stat goes with `patch show` only", file=sys.stderr)
        return 2
    with KeptCode(arguments.run, arguments.tracking_uri) as code:
        if arguments.action == "show":
            return _show(code, only_stat=arguments.stat, as_json=arguments.json)
        if arguments.action == "verify":
            proofs = git_patch.verify(code.state, Path.cwd(), code.patch)
            tell_proofs(code.run_id, code.state, proofs, "gives", as_json=arguments.json)
            return 0
        proofs = git_patch.apply(code.state, Path.cwd(), code.patch)
    # Not whether the work tree is now exact: that depends on what was in it.
    applied = [{"path": proof.path, "commit": proof.commit} for proof in proofs]
    if arguments.json:
        print(json.dumps({"run_id": code.run_id, "verdict": code.state.verdict, "applied": applied}, indent=2))
        return 0
    for proof in proofs:
        print(f"{_place(proof)}applied the changes that the run had on {proof.commit[:12] or 'nothing'}")
    tell_missing(code.state, exact={proof.path for proof in proofs if proof.is_exact})
    return 0


def tell_proofs(run_id: str, state: CodeState, proofs: Collection[Proof], done: str, *, as_json: bool) -> None:
    """What was found out about each repository, and what the run's code lacks."""
    if as_json:
        found = [proof._asdict() for proof in proofs]
        print(json.dumps({"run_id": run_id, "verdict": state.verdict, "repositories": found}, indent=2))
        return
    for proof in proofs:
        kind = "the exact tree" if proof.is_exact else "the tree without what stays on the run's machine,"
        print(f"{_place(proof)}{proof.commit[:12] or 'no commit'} + patch {done} {kind} {proof.tree}")
    tell_missing(state, exact={proof.path for proof in proofs if proof.is_exact})


def tell_missing(state: CodeState, exact: Collection[str] = ()) -> None:
    """What is not in the patches, on standard error; of the repositories in `exact` only what was not captured."""
    for code in state.repositories:
        lines = [f"{one.path} was not captured: {one.why}" for one in code.left_out]
        if code.path not in exact:
            lines += [
                f"{one.path} stays on its machine: {one.rule}{f', line {one.line}' if one.line else ''}"
                for one in code.withheld
            ]
        for line in lines:
            print(f"dovetail: {escaped(line)}", file=sys.stderr)


def _place(proof: Proof) -> str:
    return f"{escaped(proof.path)}: " if proof.path else ""


def _show(code: KeptCode, *, only_stat: bool, as_json: bool) -> int:
    from mlflow_dovetail import git_patch
    from mlflow_dovetail.git_patch.records import as_dict

    files = {one.path: code.shared(one.patch) for one in code.state.repositories if one.patch}
    patches = {path: file for path, file in files.items() if file}
    if as_json:
        texts = {path: file.read_bytes().decode("utf-8", "backslashreplace") for path, file in patches.items()}
        print(
            json.dumps({"run_id": code.run_id, **as_dict(code.state), "patches": texts}, indent=2, ensure_ascii=False)
        )
        return 0
    print(f"dovetail: {escaped(code.state.verdict)}", file=sys.stderr)
    tell_missing(code.state)
    # A submodule's has paths of its own: piped into `git apply` it would change other files.
    for path in patches.keys() - {""}:
        print(f"dovetail: the submodule {escaped(path)} has a patch of its own; --json shows it", file=sys.stderr)
    file = patches.get("")
    content = b"" if file is None else git_patch.stat(file) if only_stat else file.read_bytes()
    if not content:
        print("dovetail: nothing that may be shown was changed since the commit", file=sys.stderr)
    elif sys.stdout.isatty():
        _page(_for_terminal(content, colour=wants_colour() and not only_stat))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    return 0


def _for_terminal(patch: bytes, *, colour: bool) -> bytes:
    """With a terminal's colours; the control characters that are in the patch are shown, never sent."""
    lines = []
    for line in patch.split(b"\n"):
        shown = escaped(line.decode("utf-8", "backslashreplace"), keep="\t").encode()
        code = next((code for begins, code in _COLOURS if line.startswith(begins)), b"") if colour else b""
        lines.append(b"\033[%sm%s\033[0m" % (code, shown) if code else shown)
    return b"\n".join(lines)


def _page(content: bytes) -> None:
    try:
        pager = shlex.split(os.environ.get("PAGER", "less"))
        process = subprocess.Popen(pager, stdin=subprocess.PIPE, env={"LESS": "FRX", **os.environ})
    except (OSError, IndexError, ValueError):  # no pager
        sys.stdout.buffer.write(content)
        return
    with process, suppress(BrokenPipeError):
        process.communicate(content)
