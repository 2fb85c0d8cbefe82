"""Reading `dvc.lock`: which stages of it write a link file, and where that file lies.

DVC's own parser is asked, because PyYAML reads `1e-05` and `on` as other values. It takes 5 ms a stage, so only the
stages that name a link file are given to it, cut out of a file that has the form in which DVC writes it; any other
file is parsed as a whole.
"""

from __future__ import annotations

import functools
import posixpath
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.identity import digest_of
from mlflow_dovetail.errors import DovetailError

LOCK_FILE = "dvc.lock"
PIPELINE_FILE = "dvc.yaml"

_KEPT = 512
_STAGE = re.compile(r"^ {2}(?=\S)", re.MULTILINE)
_HEAD = re.compile(r"(?:schema: ['\"]?2\.0['\"]?\n)?stages:\n(?= {2}\S)")
_PLAIN_LINE = re.compile(r" {2}[\w.@-][\w.@/ +=,-]*:| {4,}\S.*|schema: ['\"]?2\.0['\"]?|")
_NAMES_AGAIN = re.compile(r"^\s*(?:- )?(?:[^\s:]+: )?[&*]", re.MULTILINE)


class BrokenLock(ValueError):
    """A file that DVC cannot read either."""


class Claim(NamedTuple):
    """A stage of a dvc.lock that says it has written a link file.

    Args:
        lock: The path of the dvc.lock.
        stage: Its address, such as `train@cnn` or `models/dvc.yaml:train`.
        entry: All that dvc.lock has of it.
        out: The link file as dvc.lock has it, relative to the stage's working directory.
        digest: The md5 that dvc.lock has of it.
        folder: The stage's working directory in the repository; None while that is a template.
    """

    lock: str
    stage: str
    entry: Mapping[str, Any]
    out: str
    digest: str
    folder: str | None

    @property
    def path(self) -> str | None:
        """Of the link file in the repository; None while the working directory is a template."""
        return None if self.folder is None else posixpath.normpath(posixpath.join(self.folder, self.out))

    def is_about(self, path: str, digest: str) -> bool:
        """Whether the link file at `path`, with this md5, is the claimed one."""
        if self.path is not None:
            return self.path == path
        return self.digest == digest and f"/{path}".endswith("/" + self.out.lstrip("./"))


@functools.lru_cache(_KEPT)
def read_claims(lock: str, content: bytes, pipeline: bytes) -> tuple[Claim, ...]:
    """The stages of a dvc.lock that write link files.

    Args:
        lock: Its path in the repository.
        content: Its bytes.
        pipeline: Of the dvc.yaml beside it, which alone says what a stage's working directory is; empty without one.

    Raises:
        BrokenLock: DVC cannot read it.
        DovetailError: DVC is not installed.
    """
    if names.RUN_LINK_FILE.encode() not in content:
        if not _is_as_dvc_writes(text := _text(content)):
            _parse_stages(text)
        return ()
    folder = posixpath.dirname(lock)
    return tuple(
        Claim(lock, _address(folder, stage), entry, str(out["path"]), digest_of(out), _place(folder, pipeline, stage))
        for stage, entry in _stages(_text(content)).items()
        for out in _mappings(entry.get("outs"))
        if posixpath.basename(str(out.get("path"))) == names.RUN_LINK_FILE and "cmd" in entry
    )


def _stages(text: str) -> dict[str, Mapping[str, Any]]:
    if not _is_as_dvc_writes(text):
        return _parse_stages(text)
    begins = [match.start() for match in _STAGE.finditer(text)]
    sections = (text[begin:end] for begin, end in zip(begins, [*begins[1:], len(text)], strict=True))
    found: dict[str, Mapping[str, Any]] = {}
    for section in sections:
        if names.RUN_LINK_FILE in section:
            # What follows the last stage without an indent is no part of it.
            own = re.split(r"^(?=\S)", section, maxsplit=1, flags=re.MULTILINE)[0]
            found |= _parse_stages(f"stages:\n{own}")
    return found


def _is_as_dvc_writes(text: str) -> bool:
    """Whether stages can be cut out: whole lines, nothing named twice, each stage's key in a line of its own."""
    begin = _HEAD.match(text)
    if not begin or not text.endswith("\n") or _NAMES_AGAIN.search(text):
        return False
    lines = text[begin.end() :].split("\n")
    keys = [line for line in lines if _STAGE.match(line)]
    return len(keys) == len(set(keys)) and all(map(_PLAIN_LINE.fullmatch, lines))


@functools.lru_cache(_KEPT)
def _parse_stages(text: str) -> dict[str, Mapping[str, Any]]:
    document = _parse(text)
    # Before DVC 2 a lock file had its stages at the top.
    stages = document.get("stages", {}) if "schema" in document or "stages" in document else document
    if not isinstance(stages, dict):
        raise BrokenLock("its stages are no mapping")
    return {str(name): stage for name, stage in stages.items() if isinstance(stage, dict)}


@functools.lru_cache(_KEPT)
def _working_folders(pipeline: str) -> dict[str, Mapping[str, Any]]:
    """The stages of a dvc.yaml; none of one that cannot be read, which says nothing of a lock."""
    try:
        return {str(name): stage for name, stage in (_parse(pipeline).get("stages") or {}).items()}
    except (BrokenLock, AttributeError):
        return {}


def _place(folder: str, pipeline: bytes, stage: str) -> str | None:
    """The stage's working directory in the repository, by its `wdir`; None if that is a template without an answer."""
    wdir = ""
    if b"wdir" in pipeline:
        name, _, item = stage.partition("@")
        declared = _working_folders(_text(pipeline)).get(name)
        body = declared.get("do", declared) if isinstance(declared, dict) else {}
        wdir = str(body.get("wdir") or "") if isinstance(body, dict) else ""
        wdir = wdir.replace("${item}", item)
    return None if "${" in wdir else posixpath.normpath(posixpath.join(folder, wdir))


def _parse(text: str) -> dict[str, Any]:
    try:
        from dvc.utils.serialize import ParseError, parse_yaml
    except ImportError as error:
        what, why = "dvc.lock cannot be read.", "DVC is not installed, and only its own parser reads it rightly."
        raise DovetailError(what, why, "Run: pip install dvc") from error
    try:
        document = parse_yaml(text, LOCK_FILE)
    except (ParseError, ValueError, RecursionError) as error:
        cause = error.__cause__ or error
        raise BrokenLock(getattr(cause, "problem", None) or str(cause).split("\n", 1)[0]) from error
    if not isinstance(document, dict):
        raise BrokenLock("it is no mapping")
    return document


def _address(folder: str, stage: str) -> str:
    return f"{folder}/{PIPELINE_FILE}:{stage}" if folder else stage


def _mappings(items: object) -> list[Mapping[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BrokenLock("it is not UTF-8") from error
