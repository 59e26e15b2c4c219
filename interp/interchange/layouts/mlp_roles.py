"""What the tensors of an unknown network with one hidden layer are for: a chain of matrices, in their order."""

import itertools
import re
from collections.abc import Mapping

from torch import Tensor

from interp.errors import InputError
from interp.interchange.layouts.assignment import Piece
from interp.interchange.layouts.names import take_apart

_SPOKEN = re.compile(r"attn|attention|qkv|query|pos|(^|[._])w_?[qkvo]([._]|$)|norm|lstm|rnn|gru|conv")
_EMBED = re.compile(r"emb|wte|tok|lookup|(^|[._])w_?e$")


def is_mlp(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there are two to four matrices, and nothing that speaks of attention, positions or layers of layers.

    >>> import torch
    >>> is_mlp({"embedding.weight": torch.ones(7, 5), "fc1.weight": torch.ones(9, 10), "fc2.weight": torch.ones(7, 9)})
    True
    """
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    spoken = any(_SPOKEN.search(name.lower()) for name in tensors)
    return 2 <= len(matrices) <= 4 and not spoken and all(tensor.ndim <= 2 for tensor in tensors.values())


def mlp_pieces(tensors: Mapping[str, Tensor]) -> dict[str, Piece]:
    """Our names → where they are. Raises InputError, with the chain that was seen, where it is none with one hidden
    layer."""
    names = {name: take_apart(name) for name in tensors}
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    embed = next((name for name in matrices if _EMBED.search(names[name].within)), None)
    chain = [name for name in matrices if name != embed]
    shapes = [tuple(tensors[name].shape) for name in chain]
    if embed is None and len(chain) == 3:
        embed, chain, shapes = chain[0], chain[1:], shapes[1:]
    turned = _is_linear(shapes)
    if turned is None or len(chain) not in ((2,) if embed is None else (2, 3)):
        seen = " → ".join(f"{name!r} {list(tensors[name].shape)}" for name in matrices)
        raise InputError(f"{seen} is no network with one hidden layer, with or without an embedding")
    parts = ["mlp.W_in", "mlp.W_out", "unembed.W_U"][: len(chain)]
    axes = {"mlp.W_in": ("inputs", "d_mlp"), "mlp.W_out": ("d_mlp", "features"), "unembed.W_U": ("features", "d_out")}
    biases = {
        "mlp.W_in": ("mlp.b_in", "d_mlp"),
        "mlp.W_out": ("mlp.b_out", "features"),
        "unembed.W_U": ("unembed.b_U", "d_out"),
    }
    pieces = {}
    if embed is not None:
        width = shapes[0][1] if turned else shapes[0][0]
        rows, columns = tensors[embed].shape
        upright = width in (columns, 2 * columns) or width not in (rows, 2 * rows)
        pieces["embed.W_E"] = Piece((embed,), f"{'p features' if upright else 'features p'} -> p features")
    for part, name in zip(parts, chain, strict=True):
        one, other = axes[part]
        pieces[part] = Piece(
            (name,), f"{other} {one} -> {one} {other}" if turned else f"{one} {other} -> {one} {other}"
        )
        ours, axis = biases[part]
        beside = [other for other, of in names.items() if of.bias and of.within == names[name].within]
        if beside:
            pieces[ours] = Piece((beside[0],), f"{axis} -> {axis}")
    return pieces


def _is_linear(shapes: list[tuple[int, ...]]) -> bool | None:
    """Whether the matrices are [out, in]: each then reads what the one before it writes. None where they do not."""
    pairs = list(itertools.pairwise(shapes))
    if pairs and all(one[0] == other[1] for one, other in pairs):
        return True
    return False if pairs and all(one[1] == other[0] for one, other in pairs) else None
