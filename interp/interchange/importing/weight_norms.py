"""Weight norm taken apart: a matrix that is stored as lengths and directions."""

import re
from collections.abc import Mapping

from torch import Tensor

_LENGTHS = re.compile(r"(?P<module>.*\.|)(weight_g|parametrizations\.(?P<name>\w+)\.original0)")


def without_weight_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with W = g·v/‖v‖ in place of g and v (torch.nn.utils.weight_norm, in its old names and its new), the
    norm along the axes in which g has one entry.

    >>> import torch
    >>> g, v = torch.tensor([[2.0], [10.0]]), torch.tensor([[0.0, 5.0], [3.0, 4.0]])
    >>> without_weight_norms({"fc.weight_g": g, "fc.weight_v": v})["fc.weight"].tolist()
    [[0.0, 2.0], [6.0, 8.0]]
    """
    pairs = weight_norms(tensors)
    directions = {v for v, _ in pairs.values()}
    found = {}
    for name, tensor in tensors.items():
        if name in pairs:
            v, whole = pairs[name]
            axes = [
                axis for axis, size in enumerate(tensors[v].shape) if tensor.ndim == 0 or tensor.shape[axis] != size
            ]
            wide, g = tensors[v].double(), tensor.double()
            found[whole] = (g * wide / wide.norm(dim=axes, keepdim=True)).to(tensors[v].dtype)
        elif name not in directions:
            found[name] = tensor
    return found


def weight_norms(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, str]]:
    """The names of lengths g → those of the directions v, and of the matrix that they make."""
    found = {}
    for name, g in tensors.items():
        if (match := _LENGTHS.fullmatch(name)) is None:
            continue
        v = re.sub("_g$", "_v", name) if match["name"] is None else name.removesuffix("0") + "1"
        whole = match["module"] + (match["name"] or "weight")
        if v in tensors and whole not in tensors and _fits(g, tensors[v]):
            found[name] = (v, whole)
    return found


def _fits(g: Tensor, v: Tensor) -> bool:
    if not (g.is_floating_point() and v.is_floating_point() and v.ndim >= 2):
        return False
    along = g.ndim == v.ndim and all(one in (1, size) for one, size in zip(g.shape, v.shape, strict=True))
    return g.ndim == 0 or (along and tuple(g.shape) != tuple(v.shape))
