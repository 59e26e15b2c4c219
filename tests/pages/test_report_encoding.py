"""Arrays for the page: unpacked again here, by a second implementation, they are what went in, to the stated error."""

import base64
import zlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from interp.pages.encoding import LARGEST_ERROR, exact, packed_text, quantized


def unpack(block):
    """The values of a block, by the description in interp.pages.encoding."""

    def numbers(packed, kind):
        return np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=np.dtype(kind).newbyteorder("<"))

    values = numbers(block["data"], block["type"]).reshape(block["shape"])
    if not block["type"].startswith("uint"):
        return values
    levels = np.cumsum(values, axis=0, dtype=values.dtype)
    top = np.iinfo(values.dtype).max - 1
    low, high = (
        numbers(block[name], "float32").reshape(
            block["shape"][: block["scales"]] + [1] * (values.ndim - block["scales"])
        )
        for name in ("low", "high")
    )
    return np.where(levels > top, np.nan, low + levels.astype(float) / top * (high.astype(float) - low))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("scales", [0, 1, 2])
def test_values_come_back_to_half_a_level(bits, scales):
    values = np.random.RandomState(0).standard_normal((6, 5, 40)) * np.logspace(-3, 3, 6)[:, None, None]
    error = np.abs(unpack(quantized(values, bits=bits, scales=scales)) - values)
    axes = tuple(range(scales, 3))
    full_scale = np.broadcast_to(values.max(axes, keepdims=True) - values.min(axes, keepdims=True), values.shape)
    # The limits are float32, which moves them by up to 6e-8 of themselves.
    assert (error <= LARGEST_ERROR[bits] * full_scale + 3e-7 * np.abs(values).max(axes, keepdims=True)).all()
    assert error.max() > 0.3 * LARGEST_ERROR[bits] * full_scale.min()


def test_the_error_is_below_half_a_percent():
    assert max(LARGEST_ERROR.values()) < 0.005


def test_what_is_not_known_stays_unknown():
    values = np.array([[0.0, np.nan, 1.0], [np.inf, 0.5, -np.inf]])
    shown = unpack(quantized(values))
    assert_array_equal(np.isnan(shown), ~np.isfinite(values))
    assert shown[0, 0] == 0
    assert shown[0, 2] == 1


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-30, np.nan])
def test_constants(value):
    shown = unpack(quantized(np.full((3, 4), value), scales=1))
    assert_array_equal(shown, np.full((3, 4), np.float32(value)))


def test_exact_numbers_are_exact():
    values = np.array([[1.5, np.nan], [-2.0, 3e-8]], dtype=np.float32)
    assert_array_equal(unpack(exact(values)), values)
    assert_array_equal(unpack(exact(np.array([[0, -5], [2**31 - 1, 7]]))), [[0, -5], [2**31 - 1, 7]])
    assert_array_equal(unpack(exact(np.array([True, False]))), [1, 0])


def test_slow_changes_take_little_room():
    levels = np.linspace(0, 1, 50)[:, None] + np.random.RandomState(0).random((1, 2000))
    assert len(quantized(levels)["data"]) < 0.4 * len(quantized(np.random.RandomState(0).random((50, 2000)))["data"])


def test_text():
    text = "αβγ </script>" * 100
    assert zlib.decompress(base64.b64decode(packed_text(text))).decode() == text
