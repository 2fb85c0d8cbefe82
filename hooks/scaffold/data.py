"""The data, put where DVC would have put it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

from scaffold.errors import ScaffoldError

DATA = Path("data", "raw", "digits.csv")


def fill_cache(project: Path) -> None:
    """Copy the data into DVC's cache: queued experiments and `dvc push` work at once.

    Raises:
        ScaffoldError: The file is not the one that its .dvc file names.

    Source:
        DVC 3, `.dvc/cache/files/md5/<2 digits>/<30 digits>`, read-only.
    """
    data = project / DATA
    if not data.is_file():
        raise ScaffoldError(
            f"Cannot version {DATA.as_posix()}",
            "the template came without it.",
            "Clone the template again, and give cookiecutter that clone.",
        )
    expected = re.search(r"md5:\s*([0-9a-f]{32})\b", data.with_name("digits.csv.dvc").read_text(encoding="utf-8"))
    found = hashlib.md5(data.read_bytes(), usedforsecurity=False).hexdigest()
    if expected is None or expected[1] != found:
        raise ScaffoldError(
            f"Cannot version {DATA.as_posix()}",
            f"its md5 is {found}, and {DATA.name}.dvc names {expected[1] if expected else 'none'}. "
            "A changed line ending does that.",
            "Clone the template again with `git clone -c core.autocrlf=false`.",
        )
    cached = project.joinpath(".dvc", "cache", "files", "md5", found[:2], found[2:])
    cached.parent.mkdir(parents=True, exist_ok=True)
    if not cached.exists():
        shutil.copyfile(data, cached)
        cached.chmod(0o444)
