"""The rows of several runs' tables below each other, so that the same value means the same in all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables.answers import named
from mlflow_dovetail.prediction_tables.joining import flat
from mlflow_dovetail.prediction_tables.schema import Column, Manifest

Part = tuple[pa.Table, Manifest]


def stack(parts: Sequence[Part]) -> pa.Table:
    """One table of the rows of all.

    A class is its number where all runs have named the classes alike, or none has, and its name where a number means
    different classes; a run that has not named its classes takes the first one's names. Probabilities stand in the
    order of the first run's classes. A column that a run does not have is missing in its rows.

    Args:
        parts: Rows and manifests, one at least; the rows may have further columns.

    Raises:
        DovetailError: A column holds different things, or the probabilities of other classes.
    """
    tables = [table for table, _ in parts]
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        places = [place for place, table in enumerate(tables) if name in table.column_names]
        columns = [parts[place][1].column(name) for place in places]
        found = [flat(tables[place][name]) for place in places]
        for place, values in zip(places, _alike(found, columns), strict=True):
            at = tables[place].column_names.index(name)
            tables[place] = tables[place].set_column(at, name, values)
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise _different(str(error)) from error


def _alike(found: Sequence[pa.Array], columns: Sequence[Column | None]) -> Sequence[pa.Array]:
    """One column's values of each run, which has said what they are; None of a column that no run has logged."""
    kinds = {column.kind for column in columns if column}
    classes = [column.classes if column else () for column in columns]
    known = next(filter(None, classes), ())
    said = [names or known for names in classes]
    if kinds == {"class"} and not (_are_numbers(found) and len(set(said)) == 1):
        return [named(values, names) for values, names in zip(found, said, strict=True)]
    if kinds == {"probabilities"}:
        return [_in_order(values, names, known) for values, names in zip(found, said, strict=True)]
    return found


def _are_numbers(found: Sequence[pa.Array]) -> bool:
    return all(pa.types.is_integer(values.type) for values in found)


def _in_order(values: pa.ListArray, names: Sequence[str], wanted: Sequence[str]) -> pa.ListArray:
    """Lists whose numbers belong to `names`, in the order of `wanted`."""
    if tuple(names) == tuple(wanted):
        return values
    lengths = set(pc.unique(pc.list_value_length(values).drop_null()).to_pylist())
    if sorted(names) != sorted(wanted) or len(set(names)) < len(names) or lengths - {len(names)}:
        raise _different(f"Probabilities are of {_some(wanted)} in one run, of {_some(names)} in another.")
    order = [names.index(name) for name in wanted]
    rows = [None if row is None else [row[place] for place in order] for row in values.to_pylist()]
    return pa.array(rows, values.type)


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:5]) + (" and others" if len(names) > 5 else "")


def _different(why: str) -> DovetailError:
    return DovetailError(
        "The tables of these runs do not go below each other.",
        why,
        "Load them one by one, or name the columns that you need: columns=[...].",
    )
