"""Coordinates made once are those that xarray would make, and different ones stay different."""

import numpy as np
import xarray as xr

from interp.analysis import axes

SPLIT = ("split", np.array(["all", "train"]), {"units": "name"})
FREQUENCY = ("frequency", np.arange(1, 4, dtype=np.int32), {"units": "1"})


def test_they_are_those_of_xarray_and_made_once() -> None:
    coordinates = {"split": SPLIT, "frequency": FREQUENCY}
    values = {"loss": (("split", "frequency"), np.arange(6.0).reshape(2, 3))}
    made = xr.Dataset(values, coords=axes(coordinates))
    xr.testing.assert_identical(made, xr.Dataset(values, coords=coordinates))
    assert made.loss.sel(split="train", frequency=3).item() == 5
    assert axes(dict(coordinates)) is axes(coordinates)


def test_other_values_types_and_attributes_are_other_coordinates() -> None:
    dimension, values, attributes = FREQUENCY
    for other in (
        (dimension, values + 1, attributes),
        (dimension, values.astype(np.int64), attributes),
        (dimension, values, {}),
    ):
        found = axes({"frequency": other})["frequency"]
        assert found.dtype == other[1].dtype
        assert found.attrs == other[2]
        np.testing.assert_array_equal(found, other[1])
