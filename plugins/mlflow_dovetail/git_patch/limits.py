"""How much code is captured."""

from __future__ import annotations

import os
from dataclasses import dataclass

from mlflow_dovetail import names
from mlflow_dovetail.errors import DovetailError

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The bounds of one capture.

    Attributes:
        file_bytes: Of one file.
        total_bytes: Of all changed files.
        untracked: How many untracked files.
        seconds: For the capture; 0 turns it off.
    """

    file_bytes: int = 20 * _MIB
    total_bytes: int = 200 * _MIB
    untracked: int = 5000
    seconds: float = 10.0

    @classmethod
    def of_environment(cls) -> Limits:
        """As the variables `DOVETAIL_CODE_…` say.

        Raises:
            DovetailError: One is no number.
        """
        default = cls()
        return cls(
            file_bytes=int(_number(names.ENV_CODE_FILE_MIB, default.file_bytes / _MIB) * _MIB),
            total_bytes=int(_number(names.ENV_CODE_TOTAL_MIB, default.total_bytes / _MIB) * _MIB),
            untracked=int(_number(names.ENV_CODE_UNTRACKED, default.untracked)),
            seconds=_number(names.ENV_CODE_SECONDS, default.seconds),
        )


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        number = float(text) if text else default
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise DovetailError(
            f"Cannot read {variable}.",
            f"{text!r} is no number from 0 up.",
            f"Set a number, or unset it for {default:g}.",
        )
    return number
