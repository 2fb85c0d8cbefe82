"""The tag that tells MLflow's pages of a run's tables: several of them, from several processes, however many."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from journals import Writing, new_folder

from mlflow_dovetail import names
from mlflow_dovetail.errors import StoreUnavailable
from mlflow_dovetail.journal import Progress, Sender, is_complete
from mlflow_dovetail.journal.table_list import TAG, joined, tables_among
from mlflow_dovetail.run_folder import RunFolder, write_whole
from mlflow_dovetail.store import MemoryStore, RunStore

LONGEST = names.MAX_TAG_LENGTH


def sent(folder: RunFolder, store: RunStore) -> None:
    Sender(folder, store).send()


def entry(path: str) -> dict[str, str]:
    return {"path": path, "type": "table"}


def listed(*paths: str) -> str:
    return json.dumps([entry(path) for path in paths])


def ours(name: str) -> str:
    return f"predictions/{name}/table.json"


def paths(store: RunStore, folder: RunFolder) -> list[str]:
    tag = store.get_run(Progress.load(folder, store.uri).run_id).tags[TAG]
    assert len(tag) <= LONGEST
    return [one["path"] for one in json.loads(tag)]


def capture(folder: RunFolder, *tables: str) -> None:
    """As the recorder makes their views."""
    for name in tables:
        target = folder.captured / ours(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, b'{"columns": [], "data": []}')


@pytest.mark.parametrize(
    ("known", "new", "expected"),
    [
        ("", listed("a"), listed("a")),
        (listed("a"), listed("a"), listed("a")),
        (listed("a", "b"), listed("b", "c"), listed("a", "b", "c")),
        (listed("a"), "[]", listed("a")),
        (
            json.dumps([{"path": "a", "type": "table", "extra": 1}]),
            "[]",
            '[{"path": "a", "type": "table", "extra": 1}]',
        ),
    ],
)
def test_lists_are_joined(known: str, new: str, expected: str):
    for is_users in (True, False):
        assert joined(known, new, is_users=is_users) == expected


@pytest.mark.parametrize("words", ["my own words", '{"a": 1}', "3"])
def test_what_is_no_list_is_the_users(words: str):
    assert joined(words, listed("a"), is_users=False) == words
    assert joined(words, listed("a"), is_users=True) == listed("a")
    assert joined(listed("a"), words, is_users=True) == words


def test_it_never_overflows_and_leaves_the_users_tables_room():
    many = listed(*(f"predictions/é {number}/table.json" for number in range(1000)))
    full = joined("", many, is_users=False)
    assert LONGEST - 600 < len(full) <= LONGEST - 500
    with_users = joined(full, listed("mine.json"), is_users=True)
    assert json.loads(with_users)[-1] == entry("mine.json") and len(with_users) <= LONGEST
    fuller = joined(with_users, listed(*(f"{number}.json" for number in range(1000))), is_users=True)
    assert LONGEST - 100 < len(fuller) <= LONGEST and json.loads(fuller)[: len(json.loads(full))] == json.loads(full)


def test_only_tables_of_predictions_are_meant():
    found = ("predictions/val/table.json", "table.json", "predictions/val/index.html", "config/table.json")
    assert tables_among(found) == listed("predictions/val/table.json") and tables_among(["a"]) == ""


def test_a_table_is_listed_when_it_is_there(folder: RunFolder, write: Callable[..., Writing], run_store: RunStore):
    write()
    sent(folder, run_store)
    assert TAG not in run_store.get_run(Progress.load(folder, run_store.uri).run_id).tags
    capture(folder, "val", "test")
    sent(folder, run_store)
    assert paths(run_store, folder) == [ours("test"), ours("val")]


class Refusing(MemoryStore):
    """Takes no files."""

    def log_artifact(self, *_: object, **__: object) -> None:
        raise StoreUnavailable("Cannot store a file.", "The server is away.", "Try again.")


def test_a_table_that_did_not_arrive_is_not_listed(folder: RunFolder, write: Callable[..., Writing]):
    store = Refusing()
    writing = write()
    capture(folder, "val")
    writing.end()
    sent(folder, store)
    assert TAG not in store.get_run(Progress.load(folder, store.uri).run_id).tags


def test_the_users_tables_and_those_of_another_process_stay(
    folder: RunFolder, write: Callable[..., Writing], run_store: RunStore
):
    first, second = write(), write("append", 1)
    capture(folder, "val")
    sent(folder, run_store)
    first.tags({TAG: listed("one.json")})
    second.tags({TAG: listed("two.json")})  # each knows of its own alone
    sent(folder, run_store)
    assert paths(run_store, folder) == [ours("val"), "one.json", "two.json"]


def test_a_run_that_goes_on_elsewhere_adds_to_the_list(
    folder: RunFolder, write: Callable[..., Writing], run_store: RunStore, tmp_path: Path
):
    """Offline, or in another folder: it knows nothing of what the store has, and is synced later."""
    writing = write()
    capture(folder, "val")
    writing.end()
    sent(folder, run_store)
    run_id = Progress.load(folder, run_store.uri).run_id
    other = new_folder(tmp_path / "other", run_id=run_id, tracking_uri=run_store.uri)
    again = Writing(other, "resume", 2)
    again.tags({TAG: listed("mine.json")})
    capture(other, "test")
    again.end()
    sent(other, run_store)
    sent(other, run_store)
    assert paths(run_store, other) == [ours("val"), "mine.json", ours("test")]
    assert is_complete(other, Progress.load(other, run_store.uri))
