"""What the tensors of an unknown MLP are for: a chain of matrices, in their order."""

import itertools
import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.layouts.assignment import Piece
from interp.interchange.layouts.names import Name, take_apart
from interp.models import FAMILIES

_SPOKEN = re.compile(r"attn|attention|qkv|query|pos|(^|[._])w_?[qkvo]([._]|$)|norm|lstm|rnn|gru|conv")
_EMBED = re.compile(r"emb|wte|tok|lookup|(^|[._])w_?e$")
MOST_MATRICES = 32
HIDDEN = re.compile(r"(?:(?<=^mlp\.W_)|(?<=^mlp\.b_))[1-9]\d{0,2}$")  # which hidden layer after the first
# The axes of our tensors, those of a hidden layer after the first with {L}.
AXES = {
    "embed.W_E": "p features",
    **{"mlp.W_in": "inputs d_mlp", "mlp.W_{L}": "below d_mlp", "mlp.W_out": "d_mlp features"},
    **{"mlp.b_in": "d_mlp", "mlp.b_{L}": "d_mlp", "mlp.b_out": "features"},
    **{"unembed.W_U": "features d_out", "unembed.b_U": "d_out"},
}


def is_mlp(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there are two matrices or more, and nothing that speaks of attention, positions or layers of layers; more
    than four only where they are one chain.

    >>> import torch
    >>> is_mlp({"embedding.weight": torch.ones(7, 5), "fc1.weight": torch.ones(9, 10), "fc2.weight": torch.ones(7, 9)})
    True
    """
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    spoken = any(_SPOKEN.search(name.lower()) for name in tensors)
    if len(matrices) < 2 or spoken or any(tensor.ndim > 2 for tensor in tensors.values()):
        return False
    return len(matrices) <= 4 or _hidden_chain(tensors) is not None or _are_ours(tensors)


def mlp_pieces(tensors: Mapping[str, Tensor]) -> dict[str, Piece]:
    """Our names → where they are. Raises InputError, with the chain that was seen, where it is none of our MLPs."""
    if _are_ours(tensors):
        return {name: Piece((name,), f"{_axes(name)} -> {_axes(name)}") for name in tensors}
    names = {name: take_apart(name) for name in tensors}
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    embed = next((name for name in matrices if _EMBED.search(names[name].within)), None)
    if embed is None and (deep := _hidden_chain(tensors)) is not None:
        return _chained(deep, tensors, names)
    chain = [name for name in matrices if name != embed]
    shapes = [tuple(tensors[name].shape) for name in chain]
    if embed is None and len(chain) == 3:
        embed, chain, shapes = chain[0], chain[1:], shapes[1:]
    turned = _is_linear(shapes)
    if turned is None or len(chain) not in ((2,) if embed is None else (2, 3)):
        seen = " → ".join(f"{name!r} {list(tensors[name].shape)}" for name in matrices)
        raise InputError(
            f"{seen} is no network with one hidden layer, with or without an embedding, and none with several and "
            "without an embedding"
        )
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


def _are_ours(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the weights of one of our own MLPs with several hidden layers, by their names."""
    axes = {name: AXES.get(HIDDEN.sub("{L}", name), "") for name in tensors}
    return "mlp.W_1" in tensors and all(axes[name] and axes[name].count(" ") + 1 == tensors[name].ndim for name in axes)


def _hidden_chain(tensors: Mapping[str, Tensor]) -> list[str] | None:
    """The matrices of a network with several hidden layers and without an embedding, in their order; None where they
    are none, or where the first may be an embedding.

    What is read is as long as there are classes, or twice that. The first of three matrices is no embedding where it
    has a bias, where it reads a and b side by side, or where the modules are numbered and there is one between any two
    of them, which is a nonlinearity.
    """
    matrices = [name for name, tensor in tensors.items() if tensor.ndim == 2]
    if not 3 <= len(matrices) <= MOST_MATRICES or any(_EMBED.search(take_apart(name).within) for name in matrices):
        return None
    for chain in (sorted(matrices, key=_natural), matrices):
        shapes = [tuple(tensors[name].shape) for name in chain]
        if (is_linear := _is_linear(shapes)) is None:
            continue
        inputs, outputs = zip(*((shape[::-1] if is_linear else shape) for shape in shapes), strict=True)
        if inputs[0] not in (outputs[-1], 2 * outputs[-1]):
            continue
        first = take_apart(chain[0]).within
        has_bias = any(name.bias and name.within == first for name in map(take_apart, tensors))
        if len(chain) > 3 or has_bias or inputs[0] == 2 * outputs[-1] or _are_numbered_apart(chain):
            return chain
    return None


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A name with the numbers in it as numbers: 10 comes after 2."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.findall(r"\d+|\D+", name)]


def _are_numbered_apart(chain: Sequence[str]) -> bool:
    """Whether the names are those of a torch.nn.Sequential in which something stands between any two of the layers."""
    numbers = [re.fullmatch(r"(?:.*\.)?(\d+)\.weight", name) for name in chain]
    places = [int(number[1]) for number in numbers if number]
    return len(places) == len(chain) and all(two - one > 1 for one, two in itertools.pairwise(places))


def _chained(chain: Sequence[str], tensors: Mapping[str, Tensor], names: Mapping[str, Name]) -> dict[str, Piece]:
    """The pieces of a network with several hidden layers. Raises InputError where they are not as wide as each other,
    as ours are."""
    shapes = [tuple(tensors[name].shape) for name in chain]
    is_linear = _is_linear(shapes) is True
    widths = [shape[0] if is_linear else shape[1] for shape in shapes[:-1]]
    if len(set(widths)) > 1:
        raise InputError(
            f"{' → '.join(map(repr, chain))} have hidden layers of {', '.join(map(str, widths))} neurons, and those of "
            "our models are as wide as each other; where you have its code, --module my_code.py:build reads any network"
        )
    maps = FAMILIES["mlp"].linear_maps(ModelConfig(family="mlp", n_layers=len(chain) - 1))
    pieces = {}
    for (matrix, bias), name in zip(maps, chain, strict=True):
        read, written = _axes(matrix).split()
        theirs = f"{written} {read}" if is_linear else f"{read} {written}"
        pieces[matrix] = Piece((name,), f"{theirs} -> {read} {written}")
        beside = [other for other, of in names.items() if of.bias and of.within == names[name].within]
        if beside:
            pieces[bias] = Piece((beside[0],), f"{_axes(bias)} -> {_axes(bias)}")
    return pieces


def _axes(ours: str) -> str:
    """The axes of one of our tensors, as mapping files have them."""
    return AXES[HIDDEN.sub("{L}", ours)]


def _is_linear(shapes: list[tuple[int, ...]]) -> bool | None:
    """Whether the matrices are [out, in]: each then reads what the one before it writes. None where they do not."""
    pairs = list(itertools.pairwise(shapes))
    if pairs and all(one[0] == other[1] for one, other in pairs):
        return True
    return False if pairs and all(one[1] == other[0] for one, other in pairs) else None
