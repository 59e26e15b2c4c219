"""A stranger's name for a tensor, taken apart: layer, head, what it is called within, weight or bias."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_LEAVES = ("weight", "bias", "w", "b", "kernel", "scale", "gamma", "beta", "g", "a_2", "b_2", "weights", "embedding")
_BIAS_LEAVES = ("bias", "b", "beta", "b_2")
_NO_LAYER = re.compile(
    r"mlp|ff|ffn|feed_forward|feedforward|net|fc|heads?|attn_heads|fn|seq|linears?|to_out|(\w*_)?embed(ding)?s?|sub_?layers?|layers_?norms?"
)
_HEADS = re.compile(r"(attn_|attention_|self_attn_)?(heads?|head_list)")


class Name(NamedTuple):
    """A tensor's name, taken apart: its layer (as it is numbered), its head, what it is called within, and whether it
    is a bias."""

    whole: str
    layer: str | None
    head: int | None
    within: str
    bias: bool

    @property
    def outside(self) -> bool:
        return self.layer is None


def take_apart(name: str) -> Name:
    """A name's layer, head and ending.

    >>> take_apart("module.decoder.blocks.1.self_attn.attn_heads.3.Wq.weight")[1:]
    ('1', 3, 'self_attn.wq', False)
    >>> take_apart("model.mlp.0.bias")[1:]
    (None, None, 'model.mlp.0', True)
    """
    words = [snake(word) for word in name.split(".")]
    bias = False
    if len(words) > 1 and words[-1] in _LEAVES:
        bias = words.pop() in _BIAS_LEAVES
    elif match := re.fullmatch(r"(.+)_(weight|bias)", words[-1]):
        words[-1], bias = match[1], match[2] == "bias"
    elif re.fullmatch(r"b_?(q|k|v|o|in|out|u|gate)", words[-1]):
        words[-1], bias = "w" + words[-1][1:], True
    layer, start = None, 0
    for at, word in enumerate(words[:-1]):
        numbered = re.fullmatch(r"(?:(?:(?:transformer|decoder|encoder)_)?(?:block|layer)|h|l)_?(\d{1,3})", word)
        listed = bool(at) and words[at - 1] in ("layers", "blocks")  # layers.1.0.0 is within layer 1
        inside = listed or any(not other.isdecimal() for other in words[at + 1 :])
        if word.isdecimal() and len(word) <= 3 and inside and not (at and _NO_LAYER.fullmatch(words[at - 1])):
            layer, start = word, at + 1
        elif numbered and inside:
            layer, start = numbered[1], at + 1
        if layer is not None:
            break
    head, within = None, []
    for at, word in enumerate(words[start:], start):
        if word.isdecimal() and at and _HEADS.fullmatch(words[at - 1]):
            head = int(word)
            within.pop()
        else:
            within.append(word)
    return Name(name, layer, head, ".".join(within), bias)


def _has_attention(name: Name) -> bool:
    return bool(re.search(r"att|mha|qkv|(^|[._])(to_)?w?_?[qkv](_proj|uery|eys?|alues?)?([._]|$)", name.within))


def in_pairs(names: Sequence[Name]) -> list[Name]:
    """Layers that are turn by turn attention and MLP (x-transformers), two and two put together.

    >>> attention, mlp = take_apart("layers.0.1.to_q.weight"), take_apart("layers.1.1.ff.2.weight")
    >>> [one[1:4:2] for one in in_pairs([attention, mlp])]
    [('0', '0.1.to_q'), ('0', '1.1.ff.2')]
    """
    names = _wrapped(names)
    labels = sorted({one.layer for one in names if one.layer is not None}, key=int)
    attention = {one.layer for one in names if one.layer is not None and _has_attention(one)}
    if len(labels) % 2 or [label in attention for label in labels] != [True, False] * (len(labels) // 2):
        return list(names)
    place = {label: at for at, label in enumerate(labels)}
    return [
        one
        if one.layer is None
        else one._replace(layer=str(place[one.layer] // 2), within=f"{place[one.layer] % 2}.{one.within}")
        for one in names
    ]


def _wrapped(names: Sequence[Name]) -> Sequence[Name]:
    """Where nothing is numbered as a layer, but modules of a list wrap attention and MLP (`net.0.fn.to_qkv`,
    `net.1.fn.0`, as PreNorm does), these by their numbers."""
    split = {one: re.fullmatch(r"(?P<list>.*?[^\d.])\.(?P<number>\d{1,3})\.(?P<rest>.+)", one.within) for one in names}
    lists = {found["list"] for found in split.values() if found is not None and found["rest"].startswith("fn.")}
    if len(lists) != 1 or any(one.layer is not None for one in names):
        return names
    wrapped = []
    for one in names:
        found = split[one]
        inside = found is not None and found["list"] in lists
        wrapped.append(one._replace(layer=found["number"], within=found["rest"]) if found and inside else one)
    return wrapped


def snake(word: str) -> str:
    """`tokenEmbedding` → `token_embedding`, `W_Q` → `w_q`, `Wq` → `wq`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", word).lower().replace("-", "_")
