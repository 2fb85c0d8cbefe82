"""Which rows a policy keeps, across batches, epochs, writers and compactions, and the count of the others."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import compaction, packs, policies
from mlflow_dovetail.prediction_tables.compaction import compact
from mlflow_dovetail.prediction_tables.policies import All, First, PerClass, RandomCount, RandomShare, Worst
from mlflow_dovetail.prediction_tables.reading import read_table
from mlflow_dovetail.prediction_tables.writer import TableWriter

LEFT_OUT = "rows left out by the policy"


def _append(writer, losses, epoch, size=7):
    for start in range(0, len(losses), size):
        part = losses[start : start + size]
        ids = [f"{start + index}" for index in range(len(part))]
        labels = [(start + index) % 3 for index in range(len(part))]
        writer.append({"id": ids, "label": labels, "loss": part, "epoch": epoch})


def _kept(table):
    found = {}
    for row in table.read(["epoch", "id"]).to_pylist():
        found.setdefault(row["epoch"], []).append(int(row["id"]))
    return found


LOSSES = [float(one) for one in np.random.default_rng(0).permutation(50)]
WORST_FIVE = sorted(range(50), key=lambda one: LOSSES[one])[-5:]

KEPT = [
    (All(), "all", list(range(50))),
    (First(10), "first 10 an epoch", list(range(10))),
    (PerClass(3), "first 3 of each label an epoch", list(range(9))),
    (Worst(5), "worst 5 by loss an epoch", sorted(WORST_FIVE)),
    (Worst(500), "worst 500 by loss an epoch", list(range(50))),
    (RandomShare(0), "a random 0 of the examples, seed 0", []),
    (RandomShare(1), "a random 1 of the examples, seed 0", list(range(50))),
]


@pytest.mark.parametrize("policy", [First(2), PerClass(2), Worst(2)], ids=lambda one: one.words)
def test_what_a_keeper_remembers_is_of_two_epochs(policy):
    keeper = policies.Keeper(policy)
    for epoch in range(50):
        kept = keeper.keep(
            {"epoch": pa.array([epoch] * 4), "label": pa.array([0, 0, 0, 1]), "loss": pa.array([1.0] * 4)}, 4
        )
        assert kept.any()
        keeper.commit()
    assert sum(map(len, keeper._committed)) <= 2 * 2


@pytest.mark.parametrize(("policy", "words", "ids"), KEPT, ids=[one[1] for one in KEPT])
def test_each_epoch_keeps_what_the_policy_says(table, policy, words, ids):
    writer = table.writer(policy=policy)
    for epoch in range(3):
        _append(writer, LOSSES, epoch)
    manifest = table.compact()
    assert manifest.policy == words
    assert _kept(table) == (dict.fromkeys(range(3), ids) if ids else {})
    assert manifest.left_out == ({LEFT_OUT: 3 * (50 - len(ids))} if len(ids) < 50 else {})


@pytest.mark.parametrize("policy", [RandomShare(0.3), RandomCount(12)], ids=str)
def test_random_examples_are_the_same_in_every_epoch_order_and_run_and_others_with_another_seed(
    tmp_path, on_disk, policy
):
    found = []
    for run, seed in enumerate((0, 0, 1)):
        table = on_disk(tmp_path / str(run))
        writer = table.writer(policy=type(policy)(*[getattr(policy, policy.__struct_fields__[0]), seed]))
        random = np.random.default_rng(run)
        for epoch in range(3):
            order = random.permutation(50)
            for part in np.split(order, 5):
                writer.append({"id": part, "epoch": epoch})
        table.compact()
        kept = [set(ids) for ids in _kept(table).values()]
        assert kept[0] == kept[1] == kept[2]
        found.append(kept[0])
    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 12 if isinstance(policy, RandomCount) else 5 < len(found[0]) < 25


def test_a_share_is_about_that_share(table):
    table.writer(policy=RandomShare(0.1)).append({"id": np.arange(20_000)})
    assert 1850 < table.compact().rows < 2150


@pytest.mark.parametrize(("n", "kept"), [(2, ["2", "4"]), (4, ["0", "2", "4", "5"]), (6, ["0", "2", "3", "4", "5"])])
def test_nan_is_the_worst_and_a_missing_loss_is_never_kept(table, n, kept):
    losses = [1.0, None, math.nan, -math.inf, math.inf, 3.0]
    table.writer(policy=Worst(n)).append({"id": range(6), "loss": losses})
    assert table.compact().left_out == {LEFT_OUT: 6 - len(kept)}
    assert table.column("id") == kept


def test_the_worst_are_of_all_writers_together(table):
    for rank in range(3):
        writer = table.writer(policy=Worst(4), writer=str(rank))
        for epoch in range(2):
            _append(writer, [one + rank / 10 for one in LOSSES], epoch)
    manifest = table.compact()
    assert manifest.left_out == {LEFT_OUT: 2 * (150 - 4)}
    assert [sorted(row["loss"] for row in table.read().to_pylist() if row["epoch"] == e) for e in range(2)] == [
        [48.2, 49.0, 49.1, 49.2]
    ] * 2


def test_the_trainer_leaves_out_what_can_be_among_the_worst_no_more(table):
    writer = table.writer(policy=Worst(3))
    images = np.random.default_rng(0).integers(0, 255, (100, 8, 8), dtype=np.uint8)
    for start in range(0, 100, 10):
        loss = np.arange(100.0, 0, -1)[start : start + 10]
        writer.append({"image": images[start : start + 10], "loss": loss})
    assert table.compact().media[0].rows == 10  # of the first batch; the others have lower losses


def test_an_epoch_that_may_go_on_is_not_settled(table, monkeypatch):
    monkeypatch.setattr(compaction, "WAIT_SECONDS", 0)
    monkeypatch.setattr(compaction, "_WAIT_SHARE", 0)
    writers = [table.writer(policy=Worst(2), writer=rank) for rank in "01"]
    for epoch in range(2):
        _append(writers[0], LOSSES, epoch)
    assert table.compact(is_over=False) is None
    _append(writers[1], LOSSES, 0)
    assert table.compact(is_over=False) is None
    _append(writers[1], [100.0, 101.0], 1)
    manifest = table.compact(is_over=False)
    assert (manifest.rows, manifest.left_out) == (2, {LEFT_OUT: 98})
    assert table.column("loss") == [49.0, 49.0]
    manifest = table.compact()
    assert (manifest.rows, manifest.left_out) == (4, {LEFT_OUT: 98 + 50})
    assert table.column("loss") == [49.0, 49.0, 100.0, 101.0]


def test_an_attempt_that_is_over_holds_up_no_epoch_of_the_next(table, monkeypatch):
    monkeypatch.setattr(compaction, "WAIT_SECONDS", 0)
    monkeypatch.setattr(compaction, "_WAIT_SHARE", 0)
    _append(table.writer(policy=Worst(2), writer="1"), LOSSES, 0)
    again = table.writer(policy=Worst(2), writer="2", attempt=2)
    for epoch in range(2):
        _append(again, LOSSES, epoch)
    assert table.compact(is_over=False).rows == 4  # of the first attempt, and of the epoch that is over in the second


def test_what_is_left_out_is_counted_when_nothing_more_is_kept(table):
    writer = table.writer(policy=First(5))
    _append(writer, LOSSES, 0)
    writer.append({"id": ["x"], "label": [0], "loss": [1.0], "epoch": 0})
    assert table.compact().left_out == {LEFT_OUT: 46}


def test_a_policy_without_its_column_is_refused(table):
    with pytest.raises(DovetailError, match="needs the column 'id'"):
        table.writer(policy=RandomCount(3)).append({"n": [1]})


@pytest.mark.parametrize("policy", [First(0), Worst(-1), RandomShare(1.5), RandomShare(math.nan)], ids=str)
def test_a_policy_that_makes_no_sense_is_refused(table, policy):
    with pytest.raises(DovetailError, match="at least 1, or a share from 0 to 1"):
        table.writer(policy=policy)


@settings(deadline=None, max_examples=25)
@given(
    losses=st.lists(st.lists(st.integers(0, 20).map(float), max_size=30), max_size=3),
    n=st.integers(1, 10),
    size=st.integers(1, 8),
)
def test_the_worst_are_the_worst(tmp_path_factory, losses, n, size):
    folder = tmp_path_factory.mktemp("worst")
    writer = TableWriter(folder, "t", policy=Worst(n))
    for epoch, one in enumerate(losses):
        _append(writer, one, epoch, size)
    compact(writer.folder, folder / "out", is_over=True)
    if any(losses):
        rows = read_table(folder / "out").to_pylist()
        for epoch, one in enumerate(losses):
            found = [row["loss"] for row in rows if row["epoch"] == epoch]
            assert sorted(found) == sorted(one)[-n:]


def test_hashes_are_what_they_were_in_every_release():
    import pyarrow as pa

    np.testing.assert_allclose(policies.hashes(pa.array(["a", "b"]), 0), [0.0, 0.0], atol=1)


RANKS = [
    (First(10), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]),
    (PerClass(2), [0, 0, 1, 1, 2, 2]),
    (First(40), sorted([*range(13), *range(13), *range(14)])),
]


@pytest.mark.parametrize(("policy", "ids"), RANKS, ids=[str(one[0]) for one in RANKS])
def test_the_first_are_of_all_ranks_together(table, policy, ids):
    writers = [table.writer(policy=policy, writer=str(rank)) for rank in range(3)]
    for epoch in range(2):
        for step in range(50):
            for rank, writer in enumerate(writers):
                writer.append({"id": [step], "label": [step % 3], "rank": rank, "epoch": epoch, "step": step})
    manifest = table.compact()
    rows = table.read(["epoch", "id", "rank"]).to_pylist()
    for epoch in range(2):
        assert sorted(int(row["id"]) for row in rows if row["epoch"] == epoch) == ids
    assert manifest.left_out == {LEFT_OUT: 2 * (150 - len(ids))}
    assert manifest.rows == 2 * len(ids)


def test_the_images_of_all_ranks_together_keep_to_the_limit(table):
    for rank in range(3):
        writer = table.writer(writer=str(rank), most_images=4)
        images = np.stack([np.full((8, 8), 10 * rank + level, np.uint8) for level in range(6)])
        writer.append({"image": images, "id": range(6)})
    manifest = table.compact()
    assert sum(one.rows for one in manifest.media) == 4
    assert manifest.left_out == {"images beyond the table's limit": 3 * 2 + 2 * 4}
    assert manifest.rows == 18


def test_images_beyond_the_limit_are_counted_once_however_often_it_is_compacted(table, monkeypatch):
    monkeypatch.setattr(compaction, "WAIT_SECONDS", 0)
    monkeypatch.setattr(compaction, "_WAIT_SHARE", 0)
    read = []
    monkeypatch.setattr(
        packs, "read_image", lambda content, read_image=packs.read_image: read.append(1) or read_image(content)
    )
    for rank in range(2):
        writer = table.writer(writer=str(rank), most_images=3)
        for level in range(3):
            writer.append({"image": np.full((1, 8, 8), 10 * rank + level, np.uint8), "id": [level]})
            manifest = table.compact(is_over=False)
        writer.close()
    assert len(read) <= 3 + 3, "those that are beyond are not read at each call"
    assert table.compact().left_out == {"images beyond the table's limit": 3}
    assert sum(one.rows for one in manifest.media) == 3


@pytest.mark.parametrize("gave_up", [False, True])
def test_a_writer_that_gave_up_holds_up_no_epoch(table, monkeypatch, gave_up):
    monkeypatch.setattr(compaction, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(compaction, "_WAIT_SHARE", 0.0)
    first, second = (table.writer(writer=writer, policy=First(2)) for writer in ("rank-0", "rank-1"))
    for writer in (first, second):
        _append(writer, LOSSES[:2], 0)
    if gave_up:
        second.give_up()
    for epoch in (1, 2):  # it is known at each call, not only at the one that reads it
        _append(first, LOSSES[:2], epoch)
        manifest = table.compact(is_over=False)
    assert (manifest.rows if manifest else 0) == (4 if gave_up else 0)
