"""The one line that says whether a run's code can be had again."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_dovetail.git_patch.records import Code, LeftOut, Withheld

EXACT = "exact"
PARTIAL = "partial: "
NONE = "none: "
REDACTED = "exact here, redacted elsewhere: "
_LONGEST = 4000


def verdict(cause: str, repositories: Sequence[Code], script: str, withheld: Sequence[Withheld]) -> str:
    """The verdict on a capture.

    Args:
        cause: Why there is no repository.
        repositories: As they were finished.
        script: The artifact with what ran, where there is no repository.
        withheld: What of that stays here.
    """
    if cause:
        kept = f"; what ran is kept: {script}" if script else ""
        here = f"; what ran is not kept: {_kept_here(withheld)}" if withheld else ""
        return f"{NONE}{cause}{kept}{here}"
    faults = [f"{_place(code)}{code.fault}" for code in repositories if code.fault]
    faults += [f"{_place(code)}its patch does not give its tree" for code in repositories if _is_unproved(code)]
    if repositories and (repositories[0].fault or repositories[0].patch is None):
        return _cut(f"{NONE}{'; '.join(faults)}")
    missing = [f"{_place(code)}{_told(one)}" for code in repositories for one in code.left_out]
    hidden = [one for code in repositories for one in code.withheld]
    if faults or missing:
        also = f"; redacted elsewhere: {_kept_here(hidden)}" if hidden else ""
        return _cut(f"{PARTIAL}{'; '.join([*faults, *missing])}{also}")
    return _cut(f"{REDACTED}{_kept_here(hidden)}") if hidden else EXACT


def _is_unproved(code: Code) -> bool:
    return any(patch is not None and not patch.is_proved for patch in (code.patch, code.published))


def _place(code: Code) -> str:
    return f"{code.path}: " if code.path else ""


def _told(one: LeftOut) -> str:
    files = f", {one.files} files" if one.files != 1 and one.files else ""
    name = f", sha256 {one.sha256[:12]}" if one.sha256 else ""
    return f"{one.path} ({one.why}{files}{name})"


def _kept_here(withheld: Sequence[Withheld]) -> str:
    return ", ".join(f"{one.path} ({one.rule}{f', line {one.line}' if one.line else ''})" for one in withheld)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… (code/state.json has all of it)"
