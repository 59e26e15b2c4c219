"""Results as CSV tables."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from interp.machine import refusals_as, write_atomically


def write_tables(results: Mapping[str, xr.Dataset], folder: Path) -> list[Path]:
    """One table per analysis and set of dimensions, and one per variable with more than two. Returns the files.

    Up to two dimensions the rows are (step, …) with a column per variable; beyond that the last dimension runs along
    the columns. `<analysis>.csv` holds what depends on the step alone; other names carry their dimensions, with `run`
    in place of the step for what does not depend on it.

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
        groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for variable, values in result.data_vars.items():
            dimensions = tuple(map(str, values.dims))
            if len(dimensions) > 2:
                table: Any = values.stack({"row": dimensions[:-1]}).transpose("row", ...).to_pandas()
                written.append(_write(folder / f"{name}.{variable}.csv", table.reset_index().to_csv(index=False)))
            else:
                groups[dimensions].append(str(variable))
        for dimensions, variables in groups.items():
            parts = [
                name,
                *([] if "step" in dimensions else ["run"]),
                *(dimension for dimension in dimensions if dimension != "step"),
            ]
            # A row needs something to run over; what is there once gets a row of its own.
            kept = result[variables] if dimensions else result[variables].expand_dims("row")
            frame = kept.to_dataframe().reset_index(drop=not dimensions)
            written.append(_write(folder / f"{'.'.join(parts)}.csv", frame.to_csv(index=False)))
    return written


def _write(path: Path, content: str) -> Path:
    write_atomically(path, content.encode())
    return path
