"""Results on disk: one NetCDF file for each analysis of a run and choice of parameters, with the hash of what it was
computed from, and sealed (`interp.analysis.seal`)."""

import contextlib
import hashlib
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from interp.analysis.seal import Believed, believed, seal, unsealed
from interp.errors import InputError
from interp.machine import Folder, refusals_as

PIECE = 1 << 24  # bytes of a result that are written at once, and read
_HEAD = 1 << 20  # of a file of many steps, what comes before the first is shorter


def load_result(path: Path, identity: str | None) -> xr.Dataset | None:
    """The stored result, unless it is absent, was not sealed by this user, was changed since, or was computed from
    something else. No link is followed to it, nor to its folder.

    >>> from tempfile import TemporaryDirectory
    >>> result = xr.Dataset({"norm": ("step", [3.0, 5.0])}, attrs={"identity": "mine"})
    >>> with TemporaryDirectory() as folder:
    ...     save_result(path := Path(folder, "norms.nc"), result)
    ...     load_result(path, "mine").identical(result), load_result(path, "of other weights")
    (True, None)
    """
    with contextlib.suppress(OSError, InputError), open_result(path) as file:
        stored = sealed_result(file)
        if stored is not None and stored.attrs.get("identity") == identity:
            return stored
    return None


def sealed_result(file: io.BufferedIOBase) -> xr.Dataset | None:
    """The result in a file that this user sealed; None where it is none, or was changed since. Of one that was written
    in pieces some steps are read at a time, so that the memory it takes is that of the result and of a piece: the
    library makes three copies of what it is given.

    >>> from interp.analysis.seal import seal
    >>> file = io.BytesIO(bytes(xr.Dataset({"norm": ("step", [3.0, 5.0])}).to_netcdf(engine="scipy")))
    >>> _ = file.seek(0, io.SEEK_END)
    >>> seal(file)
    >>> sealed_result(file).norm.values.tolist()
    [3.0, 5.0]
    """
    line = believed(file)
    if line is None:
        return None
    if line.length > PIECE:
        if _digest(file, line.length) != line.digest:  # before anything in it is read for what it says
            return None
        with contextlib.suppress(Exception):  # as in `parsed`; what has no records is read at once
            return _of_pieces(file, line)
    return parsed(unsealed(file))  # the bytes by no name: they are let go as soon as they are read


def _of_pieces(file: io.BufferedIOBase, line: Believed) -> xr.Dataset:
    """The result that `_pieces` wrote. Raises ValueError for any other."""
    from scipy.io import netcdf_file  # only large results need it

    file.seek(0)
    beginning = file.read(min(line.length, _HEAD))
    steps = int.from_bytes(beginning[4:8], "big")
    with netcdf_file(io.BytesIO(beginning[:4] + bytes(4) + beginning[8:]), mmap=False) as empty:
        of_step = [v for v in empty.variables.values() if v.dimensions[:1] == ("step",)]
        record = sum(-(-v.itemsize() * math.prod(v.shape[1:]) // 4) * 4 for v in of_step)  # each begins at a word
    end = line.length - steps * record
    if not 0 < end <= len(beginning) or steps == 0:
        raise ValueError("it has no records, or a long head")
    file.seek(end)
    digest, at_once, arrays = hashlib.sha256(head := beginning[:end]), max(1, PIECE // record), dict[str, np.ndarray]()
    piece = xr.Dataset()
    for start in range(0, steps, at_once):
        n = min(at_once, steps - start)
        content = file.read(n * record)
        digest.update(content)
        piece = xr.load_dataset(io.BytesIO(head[:4] + n.to_bytes(4, "big") + head[8:] + content), engine="scipy")
        of_step = {str(name): v for name, v in piece.variables.items() if "step" in v.dims}
        if not arrays:
            arrays = {name: np.empty((steps, *v.shape[1:]), v.dtype) for name, v in of_step.items()}
        for name, variable in of_step.items():
            arrays[name][start : start + n] = variable.values
    if digest.hexdigest() != line.digest:
        raise ValueError("it was changed while it was read")
    whole = {name: xr.Variable(v.dims, arrays.pop(str(name), v.values), v.attrs) for name, v in piece.variables.items()}
    coordinates = {name: whole.pop(name) for name in piece.coords}
    return _texts_as_written(xr.Dataset(whole, coordinates, piece.attrs))


def _digest(file: io.BufferedIOBase, length: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while length and (part := file.read(min(length, _HEAD))):
        digest.update(part)
        length -= len(part)
    return digest.hexdigest()


def parsed(content: bytes | None) -> xr.Dataset | None:
    """The result in the bytes of a NetCDF file, as it was written; None where they are none."""
    # Its reader may raise anything: LookupError for an encoding, and MemoryError, among it.
    with contextlib.suppress(Exception):
        return _texts_as_written(xr.load_dataset(io.BytesIO(content or b""), engine="scipy"))
    return None


def _texts_as_written(stored: xr.Dataset) -> xr.Dataset:
    """NetCDF gives strings back as objects; what is read shall be what was written."""
    return stored.assign({n: stored[n].astype(str) for n in stored.variables if stored[n].dtype == object})


def save_result(path: Path, result: xr.Dataset, after_piece: Callable[[], None] = lambda: None) -> None:
    """Write a result and seal it, whole or not at all; a large one in pieces, after each of which something can be done
    (its memory be given back). Raises InputError where that is not possible.

    >>> from tempfile import TemporaryDirectory
    >>> result = xr.Dataset({"norm": ("step", [3.0, 5.0])}, attrs={"identity": "mine"})
    >>> with TemporaryDirectory() as folder:
    ...     save_result(path := Path(folder, "norms.nc"), result)
    ...     load_result(path, "mine").norm.values.tolist()
    [3.0, 5.0]
    """
    with Folder(_around(path), f"cannot write {path}") as folder:
        folder.make(path.parent.name)
        folder.remove_leftovers(path.parent.name)

        def write(file: io.BufferedRandom) -> None:
            for piece in _pieces(result):
                file.write(piece)
                after_piece()
            seal(file)

        folder.write(f"{path.parent.name}/{path.name}", write)


def _pieces(result: xr.Dataset) -> Iterator[bytes]:
    """The bytes of a NetCDF file, some steps at a time where they are many: the library makes two copies of what it is
    given. With steps as the dimension that may grow, a file is a head, which has the number of steps in its second
    word, and after it one record for each step."""
    steps = result.sizes.get("step", 0)
    if result.nbytes <= PIECE or not steps:
        yield bytes(result.to_netcdf(engine="scipy"))
        return
    at_once = max(1, steps * PIECE // result.nbytes)
    end = len(_with_records(result.isel(step=slice(0))))
    head = _with_records(result.isel(step=slice(1)))[:end]
    yield head[:4] + steps.to_bytes(4, "big") + head[8:]
    for start in range(0, steps, at_once):
        content = _with_records(result.isel(step=slice(start, start + at_once)))
        assert content[8:end] == head[8:], "records of another kind"
        yield content[end:]


def _with_records(result: xr.Dataset) -> bytes:
    return bytes(result.to_netcdf(engine="scipy", unlimited_dims=["step"]))


def _around(path: Path) -> Path:
    """The folder in which the folder of results is: a run, or the user's cache, which is made."""
    around = path.parent.parent
    with refusals_as(f"cannot write {path.parent}"):
        around.mkdir(parents=True, exist_ok=True)
    return around


@contextlib.contextmanager
def open_result(path: Path) -> Iterator[io.BufferedIOBase]:
    """A file of results, to read. Raises InputError where there is none, or a link or anything else that is not a plain
    file; no link is followed to its folder either."""
    with Folder(path.parent.parent) as folder, folder.open(f"{path.parent.name}/{path.name}") as file:
        buffered = io.BufferedReader(file)
        try:
            yield buffered
        finally:
            buffered.detach()
