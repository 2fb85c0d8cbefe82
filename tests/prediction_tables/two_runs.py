"""Small prediction tables of two runs, with their manifests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mlflow_dovetail.prediction_tables.comparing import Comparison, compare
from mlflow_dovetail.prediction_tables.schema import Column, Manifest

KINDS = {"id": "id", "image": "image", "text": "text", "probabilities": "probabilities", "label": "class"}
KINDS |= {"prediction": "class", "loss": "number", "epoch": "number", "step": "number", "site": "class"}
TYPES = {"id": pa.string(), "probabilities": pa.list_(pa.float32()), "epoch": pa.int64(), "step": pa.int64()}

Run = tuple[pa.Table, Manifest]


def run(
    columns: dict[str, Sequence[Any]],
    *,
    classes: Sequence[str] = (),
    kinds: dict[str, str] | None = None,
    policy: str = "all",
    table: str = "val",
) -> Run:
    """A table and its manifest; the kinds are those of the names, else number."""
    kinds = {name: {**KINDS, **(kinds or {})}.get(name, "number") for name in columns}
    named = {name: tuple(classes) if name in ("label", "prediction", "probabilities") else () for name in columns}
    rows = pa.table({name: pa.array(values, TYPES.get(name)) for name, values in columns.items()})
    described = tuple(Column(name, kinds[name], named[name]) for name in columns)
    return rows, Manifest(table, described, rows.num_rows, (), policy=policy)


def diff(a: Run, b: Run, **options: Any) -> Comparison:
    """The comparison of two such runs."""
    return compare(a[0], b[0], manifest_a=a[1], manifest_b=b[1], **options)
