"""The hooks' modules are importable here, as they are for a hook."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HOOKS = Path(__file__).resolve().parents[2] / "hooks"
sys.path.insert(0, str(HOOKS))


@pytest.fixture
def without_hash() -> Callable[[str], str]:
    """File names with the wheel's version without the hash of its content."""
    return lambda listing: re.sub(r"\+[0-9a-f]{8}-py3", "-py3", listing)
