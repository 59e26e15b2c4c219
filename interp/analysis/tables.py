"""Results as tables: tidy frames of pandas, one for each set of axes that belongs together, and the same as CSV."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import xarray as xr

from interp.analysis.contract import discover
from interp.errors import InputError, unknown_name
from interp.machine import refusals_as, write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

BY_STEP, OF_RUN = "step", "run"


@overload
def table(result: xr.Dataset) -> "dict[str, DataFrame]":
    """All tables."""


@overload
def table(result: xr.Dataset, axes: str | Sequence[str]) -> "DataFrame":
    """One of them."""


def table(result: xr.Dataset, axes: str | Sequence[str] | None = None) -> "dict[str, DataFrame] | DataFrame":
    """A result as tables, by the axes that their rows run over beside the step: "step" is what depends on the step
    alone, "frequency" what depends on step and frequency, "run.part" what depends on the part and no step. With `axes`
    ("part", or several as "estimator.split" or a list) that one table. A row is never a pair of values that have
    nothing to do with each other.

    A variable of more than two axes has a table under its own name, its last axis along the columns, but where its
    analysis says (TABLES) that the axes make one of rows. These are the tables that `interp analyze --csv` writes.

    Raises InputError for axes that the result has no table of.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> tables = table(run.result("weight_norms"))
    >>> sorted(tables), list(tables["step"].columns)[:2]
    (['part', 'step', 'tensor'], ['step', 'total_l1'])
    >>> list(table(run.result("learning_curves"), "split").columns)
    ['step', 'split', 'loss', 'accuracy']
    """
    if not isinstance(result, xr.Dataset):
        raise InputError(
            f"a table is made of one result, not of {type(result).__name__}: analyze gives several by name, as in "
            'interp.table(interp.analyze(run, "weight_norms")["weight_norms"])'
        )
    tables = _tables(result)
    if axes is None:
        return tables
    axes = axes if isinstance(axes, str) else ".".join(axes)
    if axes not in tables:
        raise unknown_name("table of this result", axes, tables)
    return tables[axes]


def write_tables(results: Mapping[str, xr.Dataset], folder: Path) -> list[Path]:
    """The tables of each result (`table`) as CSV, in `ANALYSIS.csv` what depends on the step alone, and otherwise in
    `ANALYSIS.TABLE.csv`. Returns the files.

    >>> from tempfile import TemporaryDirectory
    >>> result = xr.Dataset({"norm": ("step", [3.0, 5.0])}, coords={"step": [0, 100]})
    >>> with TemporaryDirectory() as folder:
    ...     [path] = write_tables({"norms": result}, Path(folder))
    ...     path.name, path.read_text().split()
    ('norms.csv', ['step,norm', '0,3.0', '100,5.0'])
    """
    with refusals_as(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, result in results.items():
        for key, frame in _tables(result).items():
            path = folder / (f"{name}.csv" if key == BY_STEP else f"{name}.{key}.csv")
            write_atomically(path, frame.to_csv(index=False).encode())
            written.append(path)
    return written


def _tables(result: xr.Dataset) -> "dict[str, DataFrame]":
    tables: dict[str, DataFrame] = {}
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    of_rows = _of_rows(result)
    for variable, values in result.data_vars.items():
        dimensions = tuple(map(str, values.dims))
        if len(dimensions) > 2 and frozenset(dimensions) - {BY_STEP} not in of_rows:
            wide: Any = values.stack({"row": dimensions[:-1]}).transpose("row", ...).to_pandas()
            tables[str(variable)] = wide.reset_index()
        else:
            groups[dimensions].append(str(variable))
    for dimensions, variables in groups.items():
        parts = [*([] if BY_STEP in dimensions else [OF_RUN]), *(name for name in dimensions if name != BY_STEP)]
        # A row needs something to run over; what is there once gets a row of its own.
        kept = result[variables] if dimensions else result[variables].expand_dims("row")
        tables[".".join(parts) or BY_STEP] = kept.to_dataframe().reset_index(drop=not dimensions)
    return tables


def _of_rows(result: xr.Dataset) -> set[frozenset[str]]:
    """The sets of axes, beside the step, of which the analysis of a result says that they make a table of rows."""
    analysis = discover().get(result.attrs.get("analysis", ""))
    return set() if analysis is None else {frozenset(axes) for axes in analysis.tables}
