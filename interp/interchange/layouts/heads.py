"""How many heads the tensors of an unknown transformer may have, and how wide they are together."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from interp.errors import InputError
from interp.interchange.layouts.roles import Roles

# As often as they are seen; what else divides follows.
_HEADS = (4, 8, 1, 2, 16, 3, 6, 12, 32, 5, 10, 7, 64)


def head_facts(roles: Roles, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The widths of all heads together, of queries and of keys; how many heads where the shapes tell."""
    parts, d_model = roles.parts, roles.d_model
    known = None
    if "0.qkv" in parts:
        shape = shapes[parts["0.qkv"][0]]
        rows = max(shape) if len(shape) == 2 else 3 * d_model
        width = _other(shapes[parts["0.o"][0]], d_model) if "0.o" in parts else rows // 3
        if rows == 3 * width or len(shape) != 2:
            of_keys = width
        else:
            of_keys = (rows - width) // 2
            if of_keys < 1 or rows != width + 2 * of_keys:
                raise InputError(
                    f"{parts['0.qkv'][0]!r} {list(shape)} has {rows} rows, no queries, keys and values of {width}"
                )
    else:
        name = parts["0.q"]
        shape = shapes[name[0]]
        if len(name) > 1:
            width, known = len(name) * _other(shape, d_model), len(name)
        elif len(shape) == 3:
            known, size = _of_heads(shape, d_model)
            width = known * size
        else:
            width = _other(shape, d_model)
        key = parts["0.kv" if "0.kv" in parts else "0.k"]
        of_keys = width
        if known is None and len(key) == 1 and len(shapes[key[0]]) == 2:
            of_keys = _other(shapes[key[0]], d_model) // (2 if "0.kv" in parts else 1)
        elif known is not None and len(shapes[key[0]]) == 3:
            of_keys = width // known * _of_heads(shapes[key[0]], d_model)[0]
        elif known is not None and len(key) not in (1, known):
            of_keys = width // known * len(key)
    return {"head_widths": (width, of_keys), "n_heads": known}


def _other(shape: Sequence[int], d_model: int) -> int:
    """The size of a matrix that is not d_model."""
    one, other = shape[0], shape[-1]
    return one if other == d_model else other


def _of_heads(shape: tuple[int, ...], d_model: int) -> tuple[int, int]:
    """n_heads and d_head of a tensor with three axes; d_model is the last or the middle one, or the first."""
    if shape[1] == d_model:
        return shape[0], shape[2]
    return (shape[0], shape[1]) if shape[2] == d_model else (shape[1], shape[2])


def numbers_of_heads(
    facts: Mapping[str, Any], roles: Roles, tensors: Mapping[str, Tensor], given: Mapping[str, Any]
) -> tuple[int, ...]:
    """The numbers of heads that the shapes allow, as common as they are; one that is given comes first."""
    if facts["n_heads"] is not None:
        if given.get("n_heads") not in (None, facts["n_heads"]):
            raise InputError(
                f"model.n-heads {given['n_heads']}, as given or configured, contradicts the tensors, which have "
                f"{facts['n_heads']}"
            )
        return (facts["n_heads"],)
    width, of_keys = facts["head_widths"]
    most = max(width // 2, given.get("n_heads") or 0)  # heads of one entry only where somebody says so
    fit = [heads for heads in range(1, min(most, width) + 1) if width % heads == 0 and of_keys % (width // heads) == 0]
    fit = fit or [1]
    if (asked := given.get("n_heads")) is not None and asked not in fit:
        raise InputError(
            f"model.n-heads {asked}, as given or configured, contradicts the tensors: {asked} heads do not divide the "
            f"{width} rows of the queries{f' and the {of_keys} of the keys' if of_keys != width else ''}; possible are "
            f"{', '.join(map(str, fit))}"
        )
    table = next((tensors[name] for name in roles.buffers if re.search(r"inv_freq", name)), None)
    if table is not None and table.ndim == 1 and width % (2 * len(table)) == 0:
        fit.sort(key=lambda heads: heads != width // (2 * len(table)))
        return tuple(fit)
    fit.sort(key=lambda heads: _HEADS.index(heads) if heads in _HEADS else 100 + heads)
    fit.sort(key=lambda heads: heads != given.get("n_heads"))
    return tuple(fit[:12])
