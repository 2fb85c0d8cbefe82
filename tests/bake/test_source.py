"""Addresses, as tables of before and after."""

from __future__ import annotations

import pytest
from scaffold.source import is_remote, without_credentials

HTTPS, SSH = "https://git.example.invalid/a/b.git", "git@git.example.invalid:a/b.git"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (HTTPS, HTTPS),
        ("https://ada:secret@git.example.invalid/a/b.git", HTTPS),
        ("https://token@git.example.invalid/a/b.git", HTTPS),
        ("https://ada:p@ss@git.example.invalid/a/b.git", HTTPS),
        ("git+https://ada:secret@git.example.invalid/a/b.git", HTTPS),
        (SSH, "ssh://git@git.example.invalid/a/b.git"),
        ("ssh://git:secret@git.example.invalid:22/a/b.git", "ssh://git@git.example.invalid:22/a/b.git"),
        ("file:///srv/b.git", "file:///srv/b.git"),
        ("/srv/b.git", "file:///srv/b.git"),
    ],
)
def test_without_credentials(before, after):
    assert without_credentials(before) == after


@pytest.mark.parametrize(
    ("template", "origin", "remote"),
    [
        (HTTPS, HTTPS, True),
        (SSH, SSH, True),
        ("gh:a/b", HTTPS, True),
        ("git+https://git.example.invalid/a/b.git", HTTPS, True),
        (".", HTTPS, False),
        ("../dovetail", SSH, False),
        ("C:\\dovetail", HTTPS, False),
        ("file:///srv/dovetail.git", "file:///srv/dovetail.git", False),
        ("git+file:///srv/dovetail", "file:///srv/dovetail", False),
        ("https://git.example.invalid/a/b/archive/main.zip", "", False),
        ("gh:a/b", "/srv/mirror", False),
    ],
)
def test_is_remote(template, origin, remote):
    assert is_remote(template, origin) is remote
