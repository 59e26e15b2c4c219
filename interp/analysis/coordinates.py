"""The coordinates of results, each set made once: to index them takes longer than all else that makes a result of
numbers."""

import functools
from collections.abc import Mapping

import numpy as np
import xarray as xr

Axis = tuple[str, np.ndarray, dict[str, str]]  # dimension, values, attributes


def axes(coordinates: Mapping[str, Axis]) -> xr.Coordinates:
    """These coordinates with their indexes, for `xarray.Dataset(coords=…)`. Do not write to them: they are shared.

    >>> layer = ("layer", np.arange(3), {"units": "index"})
    >>> axes({"layer": layer}) is axes({"layer": layer}), axes({"layer": layer})["layer"].values.tolist()
    (True, [0, 1, 2])
    """
    return _indexed(
        tuple(
            (name, *_frozen(dimension, np.asarray(values), attributes))
            for name, (dimension, values, attributes) in coordinates.items()
        )
    )


def _frozen(dimension: str, values: np.ndarray, attributes: Mapping[str, str]) -> tuple:
    return dimension, values.dtype.str, values.tobytes(), tuple(attributes.items())


@functools.lru_cache(maxsize=256)
def _indexed(frozen: tuple) -> xr.Coordinates:
    coordinates = {
        name: (dimension, np.frombuffer(values, dtype=dtype), dict(attributes))
        for name, dimension, dtype, values, attributes in frozen
    }
    return xr.Dataset(coords=coordinates).coords
