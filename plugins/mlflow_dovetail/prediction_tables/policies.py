"""Which rows of a table are kept.

What is left out is decided at the append where it can be, and what is kept for now is settled when an epoch is over.
An epoch is the value of the column `epoch`; without one the whole table is one. What is kept is of all writers
together, such as the ranks of a training: each keeps for now what might be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import schema

Arrays: TypeAlias = Mapping[str, pa.Array]
# Values of the epoch and of what divides it.
Group: TypeAlias = tuple[Any, ...]


class All(msgspec.Struct, frozen=True, tag="all"):
    """Every row."""

    @property
    def words(self) -> str:
        return "all"


class First(msgspec.Struct, frozen=True, tag="first"):
    """The first `n` rows of an epoch."""

    n: int

    @property
    def words(self) -> str:
        return f"first {self.n} an epoch"


class PerClass(msgspec.Struct, frozen=True, tag="per class"):
    """The first `n` rows of each class in an epoch; `column` tells the class."""

    n: int
    column: str = schema.LABEL

    @property
    def words(self) -> str:
        return f"first {self.n} of each {self.column} an epoch"


class Worst(msgspec.Struct, frozen=True, tag="worst"):
    """The `n` rows of an epoch with the greatest value in `column`; NaN is the worst, a missing value is never kept."""

    n: int
    column: str = schema.LOSS

    @property
    def words(self) -> str:
        return f"worst {self.n} by {self.column} an epoch"


class RandomShare(msgspec.Struct, frozen=True, tag="random share"):
    """About that share of the examples, 0 to 1: the same ones in every epoch and every run, chosen by their ids."""

    share: float
    seed: int = 0

    @property
    def words(self) -> str:
        return f"a random {self.share:.6g} of the examples, seed {self.seed}"


class RandomCount(msgspec.Struct, frozen=True, tag="random count"):
    """`n` examples an epoch: the same ones in every epoch and every run that has them, chosen by their ids."""

    n: int
    seed: int = 0

    @property
    def words(self) -> str:
        return f"random {self.n} an epoch, seed {self.seed}"


Policy = All | First | PerClass | Worst | RandomShare | RandomCount


def check(policy: Policy) -> None:
    """Refuse what keeps nothing that makes sense.

    Raises:
        DovetailError: A count below 1, or a share outside 0 to 1.
    """
    number = policy.share if isinstance(policy, RandomShare) else getattr(policy, "n", 1)
    if not (0 <= number <= 1 if isinstance(policy, RandomShare) else number >= 1):
        raise DovetailError(
            "Cannot make a table with that policy.",
            f"{policy!r} asks for {number!r} of the rows.",
            "Give a count of at least 1, or a share from 0 to 1.",
        )


def needs(policy: Policy) -> str | None:
    """The column that a policy decides by."""
    if isinstance(policy, (RandomShare, RandomCount)):
        return schema.ID
    return policy.column if isinstance(policy, (PerClass, Worst)) else None


def is_settled_late(policy: Policy) -> bool:
    """Whether only a whole epoch shows which rows stay."""
    return not isinstance(policy, (All, RandomShare))


class Keeper:
    """Decides batch by batch what is kept, or kept for now: at a cost that does not grow with the table.

    What `keep` has decided counts when `commit` says that these rows have been written. Of epochs before the last two
    nothing is remembered: more rows of them would be kept for now.

    Args:
        policy: Of the table.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kept: dict[Group, int] = {}
        self._best: dict[Group, np.ndarray] = {}
        self._committed = (self._kept, self._best)

    def keep(self, columns: Arrays, rows: int) -> np.ndarray | None:
        """Which rows stay; None for all."""
        policy = self._policy
        if isinstance(policy, All) or rows == 0:
            return None
        if isinstance(policy, RandomShare):
            return hashes(columns[schema.ID], policy.seed) < policy.share
        self._kept, self._best = dict(self._committed[0]), dict(self._committed[1])
        kept = np.zeros(rows, bool)
        if isinstance(policy, (First, PerClass)):
            for group, members in _groups(columns, rows, needs(policy)):
                chosen = members[: policy.n - self._kept.get(group, 0)]
                self._kept[group] = self._kept.get(group, 0) + len(chosen)
                kept[chosen] = True
            if schema.EPOCH in columns:
                last = list(dict.fromkeys(group[0] for group in self._kept))[-2:]
                self._kept = {group: number for group, number in self._kept.items() if group[0] in last}
            return kept
        values = _ranks(policy, columns)
        for group, members in _groups(columns, rows, None):
            kept[members[self._may_be_best(group, values[members], policy.n)]] = True
        return kept

    def commit(self) -> None:
        """The rows of the last call have been written."""
        self._committed = (self._kept, self._best)

    def _may_be_best(self, group: Group, values: np.ndarray, n: int) -> np.ndarray:
        """Which of these are above what `n` rows of the group have: no other can be among its best in the end."""
        best = self._best.get(group, np.empty(0))
        chosen: np.ndarray = values > (best.min() if len(best) == n else -np.inf)  # a missing one never is
        if len(self._best) > 1 and group not in self._best:
            self._best.pop(next(iter(self._best)))  # an epoch that is over; more of it would only be kept for now
        best = np.concatenate([best, values[chosen]])
        self._best[group] = best if len(best) <= n else np.partition(best, len(best) - n)[len(best) - n :]
        return chosen


def settle(policy: Policy, columns: Arrays, rows: int) -> np.ndarray:
    """Which rows of whole epochs stay, of those that were kept for now; the earlier one of two that are equal."""
    if isinstance(policy, (All, RandomShare)):
        return np.ones(rows, bool)
    kept = np.zeros(rows, bool)
    if isinstance(policy, (First, PerClass)):
        for _, members in _groups(columns, rows, needs(policy)):
            kept[members[: policy.n]] = True
        return kept
    values = _ranks(policy, columns)
    for _, members in _groups(columns, rows, None):
        order = np.argsort(-values[members], kind="stable")[: policy.n]
        kept[members[order]] = True
    return kept


def hashes(ids: pa.Array, seed: int) -> np.ndarray:
    """A number from 0 to 1 for each id, that depends on nothing else but the seed."""
    key = seed.to_bytes(16, "little", signed=True)
    texts = ids.to_pylist()
    digests = (hashlib.blake2b((text or "").encode(), digest_size=8, key=key).digest() for text in texts)
    found: np.ndarray = (np.frombuffer(b"".join(digests), "<u8") >> np.uint64(11)).astype(np.float64) / 2.0**53
    return found


def _ranks(policy: Worst | RandomCount, columns: Arrays) -> np.ndarray:
    """What decides, the greatest first; minus infinity for what is never kept."""
    if isinstance(policy, RandomCount):
        return -hashes(columns[schema.ID], policy.seed)
    column = columns[policy.column].cast(pa.float64(), safe=False)
    is_missing = column.is_null().to_numpy(zero_copy_only=False)
    values = column.to_numpy(zero_copy_only=False)
    return np.where(is_missing, -np.inf, np.where(np.isnan(values), np.inf, np.maximum(values, -np.finfo(float).max)))


def _groups(columns: Arrays, rows: int, by: str | None) -> Iterator[tuple[Group, np.ndarray]]:
    """The rows of each epoch, and of each value of a column within it."""
    keys = [columns[name] for name in (schema.EPOCH, by) if name is not None and name in columns]
    codes = np.zeros(rows, np.int64)
    for key in keys:
        encoded = key.dictionary_encode(null_encoding="encode")
        codes = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(zero_copy_only=False)
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        yield tuple(key[int(members[0])].as_py() for key in keys), members
