"""Arrays for the page: rounded to 254 or 65,534 steps of a stated scale, differences over training, deflated, base64.

With low and high the least and the largest finite value (of everything, or of each index of the first `scales` axes),
the level stored is

    level = round((value − low) / (high − low) · top),   top = 254 (8 bits) or 65,534 (16 bits);
    NaN and infinities are top + 1,

so what the page shows is off by at most half a level: 0.2 % of high − low, or 0.0008 %. Along the first axis the
differences of the levels are stored, modulo 256 or 65,536, which deflate far better than the levels. float32 and int32
are stored as they are.
"""

import base64
import zlib
from typing import Any

import numpy as np
from jaxtyping import Shaped

Block = dict[str, Any]  # JSON

_TOP = {8: 254, 16: 65_534}
LARGEST_ERROR = {bits: 0.5 / top for bits, top in _TOP.items()}


def exact(values: Shaped[np.ndarray, "..."]) -> Block:
    """Numbers as float32, whole numbers as int32; NaN stays NaN."""
    kind = np.int32 if values.dtype.kind in "iub" else np.float32
    return {"type": np.dtype(kind).name, "shape": list(values.shape), "data": _packed(values.astype(kind))}


def quantized(values: Shaped[np.ndarray, "..."], *, bits: int = 8, scales: int = 0) -> Block:
    """Values as levels of 8 or 16 bits, with one scale for each index of the first `scales` axes."""
    axes = tuple(range(scales, values.ndim))
    values = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    known = np.isfinite(values)
    low = np.where(known, values, np.inf).min(axes, initial=np.inf)
    high = np.where(known, values, -np.inf).max(axes, initial=-np.inf)
    low, high = (np.where(np.isfinite(limit), limit, 0.0).astype(np.float32) for limit in (low, high))
    # The page computes with the limits that it is given: these, in float32.
    span = np.maximum(high.astype(np.float64) - low, np.finfo(np.float32).tiny)
    level = (values - np.expand_dims(low, axes)) / np.expand_dims(span, axes) * _TOP[bits]
    whole = np.where(known, np.clip(np.round(np.nan_to_num(level)), 0, _TOP[bits]), _TOP[bits] + 1).astype(
        f"uint{bits}"
    )
    steps = whole.copy()
    steps[1:] -= whole[:-1]  # unsigned: modulo 2^bits
    scale = {"scales": scales, "low": _packed(low), "high": _packed(high)}
    return {"type": f"uint{bits}", "shape": list(values.shape), "data": _packed(steps), **scale}


def packed_text(text: str) -> str:
    """A long text, deflated, for the page to unpack."""
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def _packed(values: np.ndarray) -> str:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes(), 6)).decode()
