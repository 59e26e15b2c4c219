"""Which of the two matrices of a transformer's MLP reads, and which writes, where their names alone mislead."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from interp.interchange.layouts.names import Name


def number_from_zero(found: dict[str, str]) -> None:
    """Two matrices of an MLP that are numbered from 0: fc0 reads and fc1 writes, where fc1 beside fc2 reads."""
    for module in [one for one, part in found.items() if part == "in" and one.endswith("1")]:
        before = module[:-1] + "0"
        if found.get(before) == "zeroth":
            found[before], found[module] = "in", "out"
    for module in [one for one, part in found.items() if part == "zeroth"]:
        del found[module]  # no first one beside it: the shapes tell


def order_as_biases_say(
    found: dict[str, str], names: Sequence[Name], tensors: Mapping[str, Tensor], d_model: int
) -> None:
    """W_in and W_out exchanged where their biases do not fit: the one that writes has d_model numbers."""
    of = {part: module for module, part in found.items() if part in ("in", "out")}
    biases = {one.within: tensors[one.whole].numel() for one in names if one.bias}
    into, out = (biases.get(of.get(part, "")) for part in ("in", "out"))
    if into == d_model and out not in (None, d_model):
        found[of["in"]], found[of["out"]] = "out", "in"
