"""What a network that does not fit is made of, in a few words: so many norm layers, a fused q/k/v, a convolution."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from interp.interchange.layouts.roles import PARTS, Roles

# What is known and does not fit, and how it is told: a name, by what it is called.
FOREIGN = {
    "a norm of queries or keys": re.compile(
        r"(^|[._])(q|k|query|key|qk)_?(norm|ln|layer_?norm|rms_?norm)|norm_?(q|k)($|[._])"
    ),
    "a relative position bias": re.compile(r"rel(ative)?_?(pos|att|bias)|alibi|position_bias"),
    "a recurrent layer": re.compile(r"(weight|bias)_(ih|hh)_l\d|lstm|gru|rnn|recurrent"),
    "a convolution": re.compile(r"conv\d?d?(?!1d)[._\d]|(^|[._])conv($|[._])"),
    "batch norm": re.compile(r"running_(mean|var)|batch_?norm|(^|[._])bn\d?[._]"),
    "cross-attention": re.compile(r"cross_?att|encoder_attn|multihead_attn"),
    "experts": re.compile(r"experts?[._]|moe|router"),
    "a norm of the embedding": re.compile(
        r"emb\w*[._](\w+_)?(layer_?norm|rms_?norm|norm|ln)($|[._])|(^|[._])(layer_?norm|norm|ln)_?(emb|in)\w*($|[._])"
    ),
    "an embedding of segments": re.compile(r"token_type|segment"),
    "a low-rank adapter": re.compile(r"lora_"),
    "a weight norm": re.compile(r"weight_[gv]$|parametrizations\..*original[01]$"),
    "a spectral norm": re.compile(r"weight_(orig|u)$|parametrizations\.\w+\.(original|0\._[uv])$"),
    "a state-space layer": re.compile(r"mamba|ssm|(^|[._])a_log"),
}
# Of these even a tensor that could be a part of ours is none.
_WHOLLY = ("a recurrent layer", "a convolution", "batch norm", "experts", "a state-space layer", "a low-rank adapter")
_WHOLLY += ("a weight norm", "a spectral norm")


def foreign_parts(roles: Roles, names: Iterable[str]) -> dict[str, str]:
    """What none of our models has, and a tensor that says so.

    >>> foreign_parts(Roles(32, 1, left=["ln_emb.weight"]), ["ln_emb.weight", "conv1.weight"])
    {'a norm of the embedding': 'ln_emb.weight', 'a convolution': 'conv1.weight'}
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys((*roles.left, *roles.buffers, *names)):
        for kind, pattern in FOREIGN.items():
            if pattern.search(name.lower()) and (kind in _WHOLLY or name in roles.left or name in roles.buffers):
                found.setdefault(kind, name)
    return found


def may_be_useless(name: str) -> bool:
    """Whether a name is like that of no part of a network, so that whoever has it may know that it is of no use."""
    return not any(pattern.search(name.lower()) for pattern in (*FOREIGN.values(), *PARTS))


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
    foreign = foreign_parts(roles, tensors)
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
