"""Time is linear in the text, also for a text that is made to be slow."""

from __future__ import annotations

import time

import pytest

from mlflow_dovetail.redact import find_secrets, mask_text

HOSTILE = {
    "one word": "a",
    "token openings": "eyJ",
    "half tokens": "eyJabcdefgh.",
    "keys without end": "-----BEGIN RSA PRIVATE KEY-----\n",
    "ends of keys": "-----END RSA PRIVATE KEY-----\n+++++++++++++++++++++++++++++++++++++++++++",
    "headers of keys": "-----BEGIN PRIVATE KEY-----\nAaa:   Aaa:   \n  \nAaa:   \n",
    "dashes of a key": "-----BEGIN PRIVATE KEY-----" + "-x" * 50,
    "schemes": "a://",
    "at signs": "http://@",
    "assignments": "token=",
    "open quotes": "token='\\",
    "escaped quotes": '\\"token\\": \\"',
    "names": "api-key.",
    "names before signs": 'a_key, "',
    "annotations": "token: a | a | a[a, a] = ' ",
    "words of a value": "ab_ab-",
    "flags": "--token ",
    "headers": "authorization:",
    "exports": "export A_TOKEN=",
    "logins": "wandb login ",
    "defaults": 'name="token", default="',
    "blanks": " ",
    "lines": "\n",
    "dashes": "-",
    "braces": "token={",
    "long values of words": "password = '" + "ab_ab-" * 300 + "'\n",
    "long values of cases": "password = '" + "aB1" * 600 + "!'\n",
    "long values of brackets": "password = '" + "{<[(" * 450 + "'\n",
}
LENGTH = 60_000
TIMES_LONGER = 4


def _least_seconds(ask, text):
    def once():
        started = time.process_time()
        ask(text)
        return time.process_time() - started

    return min(once() for _ in range(3))


def is_linear(ask, piece):
    """Whether a text four times as long takes less than eight times as long; a square would take sixteen."""
    texts = [piece * (length // len(piece)) for length in (LENGTH, LENGTH * TIMES_LONGER)]
    short, long = (_least_seconds(ask, text) for text in texts)
    # What takes no time to speak of may vary as it likes.
    return long < 0.05 or long < 2 * TIMES_LONGER * short


@pytest.mark.parametrize("kind", HOSTILE)
def test_masking_is_linear(kind):
    assert is_linear(mask_text, HOSTILE[kind])


@pytest.mark.parametrize("path", ["a.py", "a.sh"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_finding_is_linear(kind, path):
    assert is_linear(lambda text: find_secrets(text, path), HOSTILE[kind])


def test_this_test_can_fail():
    def quadratic(text):
        while len(text) > 3:
            text = text[2:]

    assert not is_linear(quadratic, "a" * 20)
