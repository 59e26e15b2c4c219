"""Results on disk: one NetCDF file for each analysis of a run and choice of parameters, with the hash of what it was
computed from and a checksum."""

import contextlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from interp.experiment import hash_of
from interp.machine import refusals_as, write_atomically


def result_path(run: Path, run_hash: str, name: str, parameters: Mapping[str, Any] | None = None) -> Path:
    """Where a result is kept: with the run, or in the user's cache directory for a run that cannot be written to.
    `parameters` are those that are not the defaults; every choice of them has a file of its own.

    >>> import interp
    >>> run = interp.open_run(interp.reference_path())
    >>> result_path(run.path, run.hash, "neuron_periodicity").name
    'neuron_periodicity.nc'
    >>> result_path(run.path, run.hash, "neuron_periodicity", {"threshold": 0.9}).name
    'neuron_periodicity-c0408b.nc'
    """
    file = f"{name}-{hash_of(dict(parameters))[:6]}.nc" if parameters else f"{name}.nc"
    if os.access(run, os.W_OK):
        return run / "results" / file
    from platformdirs import user_cache_path

    return user_cache_path("interp") / run_hash / file


def load_result(path: Path, identity: str | None) -> xr.Dataset | None:
    """The stored result, unless it is absent, unreadable or computed from something else (None: what that was is not
    recorded).

    >>> from tempfile import TemporaryDirectory
    >>> result = xr.Dataset({"norm": ("step", [3.0, 5.0])}, attrs={"identity": "mine"})
    >>> with TemporaryDirectory() as folder:
    ...     save_result(path := Path(folder, "norms.nc"), result)
    ...     load_result(path, "mine").identical(result), load_result(path, "of other weights")
    (True, None)
    """
    # A damaged file can make its reader raise anything, LookupError for an encoding and MemoryError among it.
    with contextlib.suppress(Exception), open(path, "rb") as file:
        stored = xr.load_dataset(file, engine="scipy")
        if stored.attrs.get("identity") == identity:
            # NetCDF gives strings back as objects; what is read shall be what was written.
            stored = stored.assign(
                {name: stored[name].astype(str) for name in stored.variables if stored[name].dtype == object}
            )
            if stored.attrs.pop("checksum", None) == _checksum(stored):
                return stored
    return None


def _checksum(result: xr.Dataset) -> str:
    """A sum over the values of all variables: NetCDF-3 has none, and a byte changed on disk is a wrong number
    otherwise."""
    total = zlib.crc32(_words(result.attrs).encode())
    for name in sorted(map(str, result.variables)):
        values = result[name].values
        total = zlib.crc32(f"{name} {result[name].dims} {values.shape} {_words(result[name].attrs)}".encode(), total)
        if values.dtype.kind == "U":
            total = zlib.crc32(json.dumps(values.tolist()).encode(), total)
        else:
            # NetCDF-3 keeps integers in 32 bits, and may give back another size or byte order than it was given.
            plain = (
                values.astype(np.int64)
                if values.dtype.kind in "iu"
                else values.astype(values.dtype.newbyteorder("="), copy=False)
            )
            total = zlib.crc32(np.ascontiguousarray(plain).view(np.uint8).data, total)
    return f"{total:08x}"


def _words(attributes: Mapping[Any, Any]) -> str:
    """The attributes that are text: NetCDF-3 gives back numbers of other types than it was given."""
    return json.dumps(sorted((str(name), value) for name, value in attributes.items() if value and type(value) is str))


def save_result(path: Path, result: xr.Dataset) -> None:
    """Write a result, whole or not at all. Raises InputError where that is not possible.

    >>> from tempfile import TemporaryDirectory
    >>> result = xr.Dataset({"norm": ("step", [3.0, 5.0])}, attrs={"identity": "mine"})
    >>> with TemporaryDirectory() as folder:
    ...     save_result(path := Path(folder, "norms.nc"), result)
    ...     load_result(path, "mine").norm.values.tolist()
    [3.0, 5.0]
    """
    with refusals_as(f"cannot write {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    # Straight to the file: through a buffer in memory it would be there three times.
    summed = result.assign_attrs(checksum=_checksum(result))
    write_atomically(path, lambda temporary: summed.to_netcdf(temporary, engine="scipy"))
