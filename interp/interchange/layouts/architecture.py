"""What a network that does not fit is made of, in a few words: so many norm layers, a fused q/k/v, a convolution."""

from collections.abc import Mapping

from torch import Tensor

from interp.interchange.layouts.roles import FOREIGN, Roles


def described(roles: Roles, tensors: Mapping[str, Tensor]) -> str:
    """The parts that were found, and those that none of our models has.

    >>> import torch
    >>> from interp.interchange.layouts.roles import find_roles
    >>> net = {"embed.weight": torch.ones(8, 6), "lstm.weight_ih_l0": torch.ones(24, 6), "fc.weight": torch.ones(7, 6)}
    >>> described(find_roles(net), net)
    "a token embedding [8, 6], an unembedding [7, 6], a recurrent layer ('lstm.weight_ih_l0')"
    """
    said = []
    for part, words in {"embed": "a token embedding", "unembed": "an unembedding", "positions": "positions"}.items():
        if part in roles.parts:
            said.append(f"{words} {list(tensors[roles.parts[part][0]].shape)}")
    layers = {part.split(".")[0] for part in roles.parts if part[0].isdecimal()}
    if layers:
        said.append(f"{len(layers)} layer{'s' if len(layers) > 1 else ''}")
    norms = [part for part in roles.parts if part.split(".")[-1] in ("ln1", "ln2", "ln_final")]
    if norms:
        said.append(f"{len(norms)} norm layer{'s' if len(norms) > 1 else ''}")
    if "0.qkv" in roles.parts:
        shape = list(tensors[roles.parts["0.qkv"][0]].shape)
        said.append(f"a fused q/k/v {shape}")
    if "0.gate" in roles.parts or "0.gate_in" in roles.parts:
        said.append("gated MLPs")
    foreign: dict[str, str] = {}
    for name in (*roles.left, *roles.buffers):
        for kind, pattern in FOREIGN.items():
            if pattern.search(name.lower()):
                foreign.setdefault(kind, name)
    said += [f"{kind} ({name!r})" for kind, name in foreign.items()]
    said += roles.doubts
    if not said:
        said = [f"{len(tensors)} tensors, of which none is a part that is known"]
    rest = [name for name in roles.left if name not in foreign.values()]
    if rest and not foreign:
        listed = ", ".join(f"{name!r} {list(tensors[name].shape)}" for name in rest[:4])
        said.append(
            f"{len(rest)} tensor{'s' if len(rest) > 1 else ''} without a part ({listed}{', …' * (len(rest) > 4)})"
        )
    return ", ".join(said)
