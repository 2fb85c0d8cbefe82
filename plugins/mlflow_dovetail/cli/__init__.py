"""The command `dovetail`: parse, call one function, print.

A command is a module here with `add_arguments(parser)` and `run(arguments) -> int`, and a line in `COMMANDS`. It is
imported only when it is asked for, and imports what is heavy only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from mlflow_dovetail import __version__
from mlflow_dovetail.cli.page import escaped
from mlflow_dovetail.errors import DovetailError

# Verb: (what it does, an example). The module has the verb's name.
COMMANDS = {
    "show": ("Print one run: how it went, and which code, data and machine made it.", "dovetail show 9f2c41"),
    "patch": (
        "Show a run's uncommitted changes, prove that they restore, or apply them to this work tree.",
        "dovetail patch show 9f2c41 --stat",
    ),
    "restore": ("Make the exact code of a run again, in a folder of its own.", "dovetail restore 9f2c41 ../last-month"),
    "runs": (
        "Say which runs made a revision, or read or wrote a file: REV, PATH, PATH@REV or md5:HASH.",
        "dovetail runs data/raw/digits.csv@v1.0",
    ),
    "revs": ("Say which commits, branches and experiments have a run's result.", "dovetail revs 9f2c41"),
    "predictions": (
        "Show what a run's model said of each example, or what changed between two runs.",
        "dovetail predictions diff 9f2c41 77ab03 --html diff.html",
    ),
    "sync": ("Send runs that are kept here to their store, or to another one.", "dovetail sync"),
    "exec": ("Track any command as a run.", "dovetail exec --run-name baseline -- python train.py --lr 0.1"),
    "doctor": ("Examine a project and its machine, and say what to do; nothing is changed.", "dovetail doctor"),
}


class _Command(Protocol):
    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


FINE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the command's name; those of the process by default.

    Returns:
        0 fine, 1 failed, 2 wrong usage, 130 interrupted. A reader that closes the pipe early is fine.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    shell = dict(os.environ)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that an old console cannot show
    try:
        code = _run(words, shell)
        sys.stdout.flush()
    except DovetailError as error:
        tell(error)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except OSError as error:
        what = f"Cannot use {error.filename}." if error.filename else "The system refuses."
        tell(DovetailError(what, f"{error.strerror or error}.", "Mend that, and try again."))
        return FAILED
    return code


def tell(error: DovetailError) -> None:
    """What happened, why, and what to do: part of it may come from a store that others write to."""
    lines = (f"dovetail: {error.what}", f"  {error.why}", f"  {error.remedy}")
    print("\n".join(escaped(line, keep="\n") for line in lines), file=sys.stderr)


def _run(words: list[str], shell: Mapping[str, str]) -> int:
    parser = build_parser(words)
    try:
        arguments = parser.parse_args(words, argparse.Namespace(shell=shell))
    except SystemExit as stop:
        # argparse has printed what is to be said: 0 after --help and --version, 2 after a mistake.
        return stop.code if isinstance(stop.code, int) else WRONG_USAGE
    if arguments.verb is None:
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    return _module(arguments.verb).run(arguments)


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; a verb's own arguments are there only when it stands in `words`, so that only its module loads."""
    parser = argparse.ArgumentParser(
        prog="dovetail",
        description="Every run says which code, data, configuration and machine made it.",
        epilog="Examples:\n" + "\n".join(f"  {example}" for _, example in COMMANDS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dovetail {__version__}")
    _add_common(parser, tracking_uri=None, json=False)
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND")
    for verb, (purpose, example) in COMMANDS.items():
        command = verbs.add_parser(
            verb,
            help=purpose,
            description=purpose,
            epilog=f"Example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # Without a default here, what stands before the verb is not overwritten.
        _add_common(command, tracking_uri=argparse.SUPPRESS, json=argparse.SUPPRESS)
        if verb in words:
            _module(verb).add_arguments(command)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, tracking_uri: str | None, json: bool | str) -> None:
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        default=tracking_uri,
        help="where the runs are (default: MLFLOW_TRACKING_URI, else the project's mlflow.db)",
    )
    parser.add_argument("--json", action="store_true", default=json, help="print JSON for another program")


def _module(verb: str) -> _Command:
    return cast(_Command, importlib.import_module(f"mlflow_dovetail.cli.{verb}"))
