"""What the tensors of an unknown transformer are for: the parts that names, shapes and order tell.

Names are hints: what they end on is compared with what people call such a part, whatever they are in (`module.`,
`transformer.h.0.`, `encoder.layers.0.`). Shapes decide what can be, and where one part of a layer has no tensor and one
tensor no part, the one is the other ("the last tensor for the last role"). What is not known to be harmless and has no
part is left over, and named.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from interp.interchange.layouts.mlp_order import number_from_zero, order_as_biases_say
from interp.interchange.layouts.names import Name, in_pairs, snake, take_apart

Shape = tuple[int, ...]

_ATTENTION = re.compile(r"attn|attention|(^|[._])(mha|msa|sa|att|self_att|mhsa)([._]|\d|$)")
_MLP = re.compile(r"mlp|feed_?forward|(^|[._])(ff|ffn|ffw|ff_net|fcn|net|dense|fc|up|down|gate|linear)([._]|\d|$)")
_NORM = re.compile(r"norm|(^|[._])ln|rms|layer_?norm|(^|[._])(ln|n)_?[12f]($|[._])")

# What a name ends on → the part. The first that fits is taken.
_ENDINGS: dict[str, str] = {
    "qkv": r"(w_?)?qkv(_proj|_projection|_linear)?|c_attn|in_proj|query_key_value|to_qkv|attn_in|kqv|in_projection",
    "kv": r"(w_?)?kv(_proj|_projection)?|to_kv|key_value|c_kv",
    **{
        letter: rf"w_?{letter}|{letter}|({word})"
        rf"|({letter}|{word}|c_{letter}|to_{letter})_(proj|projection|linear|lin|layer|net)"
        rf"|to_{letter}|to_{word}|w{word}|{letter}_lin|c_{letter}|fc_{letter}|linear_{letter}|proj_{letter}|lin_{letter}"
        rf"|(w|linear|project)_{word}"
        for letter, word in {"q": "quer(y|ies)", "k": "keys?", "v": "values?"}.items()
    },
    "gate_in": r"gate_up(_proj)?|w12|fc1_gate|gate_and_up|wi_fused",
    "gate": r"w_?gate|gate(_proj|_projection)?|fc_gate|wi_0|linear_gate",
}
_ATTENTION_OUT = (
    r"w_?o(ut)?|o|out|output|proj|dense|(o|out|output|c|attn|final|head|heads)_(proj|projection|linear|lin)|to_out(\.\d)?"
    r"|fc(_o(ut)?)?|unify_?heads|linear_o(ut)?|lin_o|project_out|combine"
)
_MLP_IN = (
    r"w_?in|in|up|fc_?1|fc_in|c_fc|linear_?1|lin_?1|layer_?1|up_proj|dense_h_to_4h|fc|hidden|intermediate(\.dense)?"
    r"|expand|input_projection|in_proj|(w|fc|linear)_up|wi_1|wi|w_?1|mlp_in|mlp_?1|ff_?1|ffn_?1|mlp_up|ff_in|dense_?1"
    r"|proj_in|first|up_projection"
)
_MLP_OUT = (
    r"w_?out|out|down|fc_?2|fc_out|c_proj|linear_?2|lin_?2|layer_?2|down_proj|dense_4h_to_h|proj|output(\.dense)?"
    r"|contract|output_projection|out_proj|(w|fc|linear)_down|wo|w_?2|mlp_out|mlp_?2|ff_?2|ffn_?2|mlp_down|ff_out"
    r"|dense_?2|proj_out|second|down_projection"
)
_POSITIONS = re.compile(r"pos|wpe|(^|[._])pe($|[._])|positional|position")
_EMBED = re.compile(r"emb|wte|tok|vocab|lookup|(^|[._])w_?e$")
_UNEMBED = re.compile(
    r"unemb|embed(ding)?_out|lm_?head|logit|classif|read_?out|to_logits|(^|[._])w_?u$|vocab_proj|(^|[._])decoder?$"
)
_SEGMENTS = re.compile(r"token_type|segment")  # BERT's embedding of which sentence a token is in
PARTS = (_ATTENTION, _MLP, _NORM, _POSITIONS, _EMBED, _UNEMBED)  # what parts are called after
_BUFFER = re.compile(
    r"(mask|masked_bias|inv_freq|(^|[._])(cos|sin)|(cos|sin)_cached|rotary_(cos|sin)|freqs?(_cis)?|tril|triu|ignore)$"
)
_ROTARY = re.compile(r"inv_freq|rotary|rope|freqs?_cis|(^|[._])freqs$")


@dataclass
class Roles:
    """Part → the tensors that it is in (several where every head has its own), and what was concluded from what.

    Parts are `embed`, `positions`, `unembed`, `ln_final` and, of layer L, `L.q`, `L.k`, `L.v`, `L.qkv`, `L.kv`, `L.o`,
    `L.ln1`, `L.ln2`, `L.in`, `L.out`, `L.gate`, `L.gate_in`; those of biases end on `.b`.
    """

    d_model: int
    n_layers: int
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)  # no part was found for these
    buffers: list[str] = field(default_factory=list)  # what is computed, not learned: masks, tables of rotations
    bare: set[str] = field(default_factory=set)  # parts whose tensor is a parameter of its own, not a layer's weight
    missing: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)  # what does not fit our models


def find_roles(tensors: Mapping[str, Tensor]) -> Roles:
    """What each tensor is for.

    >>> import torch
    >>> names = {"tok.weight": (8, 6), "pos": (3, 6), "qkv.weight": (18, 6), "proj.weight": (6, 6)}
    >>> names |= {"ff.0.weight": (9, 6), "ff.2.weight": (6, 9), "head.weight": (7, 6)}
    >>> found = find_roles({name: torch.ones(shape) for name, shape in names.items()})
    >>> {part: theirs[0] for part, theirs in found.parts.items() if part.startswith("0.")}
    {'0.qkv': 'qkv.weight', '0.o': 'proj.weight', '0.in': 'ff.0.weight', '0.out': 'ff.2.weight'}
    """
    names = [take_apart(name) for name in tensors]
    buffers = [one for one in names if _is_buffer(one, tensors[one.whole])]
    names = in_pairs([one for one in names if one not in buffers])
    numbers = sorted({one.layer for one in names if one.layer is not None}, key=int)
    roles = Roles(_width(names, tensors), max(len(numbers), 1), buffers=[one.whole for one in buffers])
    outer, inner = _outer(names, tensors, roles)
    _outer_parts(outer, tensors, roles)
    for number, label in enumerate(numbers or [None]):
        _layer_parts(number, [one for one in inner if one.layer == label], tensors, roles)
    _missing(roles)
    return roles


def _is_buffer(name: Name, tensor: Tensor) -> bool:
    """Whether a tensor is a mask, a table of rotations or of whole numbers."""
    if not tensor.is_floating_point() or _BUFFER.search(name.within) or _BUFFER.search(snake(name.whole)):
        return True
    square = tensor.ndim >= 2 and tensor.shape[-1] == tensor.shape[-2] > 1 and tensor.numel() == tensor.shape[-1] ** 2
    return square and tensor.numel() <= 10**8 and _is_triangle(tensor.reshape(tensor.shape[-2:]))


def _is_triangle(matrix: Tensor) -> bool:
    """Whether a matrix is a mask of what comes later: one number below (or above) the diagonal, and nothing beyond."""
    marked = matrix != 0
    every = marked.new_ones(marked.shape)
    triangles = (every.tril(), every.triu(), every.triu(1), every.tril(-1))
    return any(bool((marked == triangle).all()) for triangle in triangles) and len(matrix[marked].unique()) == 1


def _width(names: list[Name], tensors: Mapping[str, Tensor]) -> int:
    """d_model: the size that most matrices have among theirs; where two are as frequent, that of most tensors."""
    sizes: Counter[int] = Counter()
    for one in names:
        shape = tuple(size for size in tensors[one.whole].shape if size > 1)
        sizes.update({size: 1000 if len(shape) > 1 else 1 for size in shape})
    return sizes.most_common(1)[0][0] if sizes else 1


# ---- outside the layers ----------------------------------------------------------------------------------------------


def _outer(names: list[Name], tensors: Mapping[str, Tensor], roles: Roles) -> tuple[list[Name], list[Name]]:
    """The tensors outside the layers and those within: by their numbers, or where nothing is numbered by what they are
    called, a module at a time."""
    if any(not one.outside for one in names):
        return [one for one in names if one.outside], [one for one in names if not one.outside]
    matrix = {one.within: tensors[one.whole].shape for one in names if tensors[one.whole].ndim >= 2 and not one.bias}
    inside = {one.within: _is_inner(one.within, matrix.get(one.within), roles.d_model) for one in names}
    inner = [one for one in names if inside[one.within]]
    if not any(one.within in matrix for one in inner):  # the names say nothing: all but the first and the last
        of_width = [one for one in names if one.within in matrix and roles.d_model in tensors[one.whole].shape]
        ends = [one.within for one in (*of_width[:1], *of_width[-1:])] if len(of_width) > 6 else [*matrix]
        small = (one for one in of_width[1:2] if _rows(tensors[one.whole], roles.d_model) <= 8)
        ends += [one.within for one in small if tensors[one.whole].shape[0] != tensors[one.whole].shape[-1]]
        inner = [one for one in names if one.within not in ends and one.within in matrix]
    return [one for one in names if one not in inner], inner


_FINAL = re.compile(
    r"(model_|final_)?(ln|norm|layer_?norm|rms_?norm)?_?(f|final|out|last|head|post)?_?(norm|ln|layer_?norm)?"
)
_OUTPUTS = (
    "out",
    "output",
    "fc",
    "fc_out",
    "linear",
    "out_proj",
    "output_proj",
    "output_projection",
    "proj",
    "decoder",
)


def _is_inner(module: str, shape: Shape | None, d_model: int) -> bool:
    """Whether a module belongs to the one layer of a network whose layers have no numbers."""
    last = module.rpartition(".")[2]
    in_mlp = bool(re.search(r"mlp|feed_?forward|(^|[._])(ff|ffn)([._]|\d|$)", module))
    if _UNEMBED.search(module) or (_POSITIONS.search(module) and not in_mlp):  # pos_ffn is no position embedding
        return False
    if _ATTENTION.search(module) or in_mlp or re.search(r"(^|[._])(block|layer)([._]|$)", module):
        return True
    if _EMBED.search(module) or _FINAL.fullmatch(last):
        return False
    if shape is None:  # a norm
        return bool(re.search(r"1|2|pre", last))
    if last in _OUTPUTS and not (len(shape) == 2 and shape[0] == shape[1] == d_model):
        return False
    return any(re.fullmatch(pattern, last) for pattern in (*_ENDINGS.values(), _ATTENTION_OUT, _MLP_IN, _MLP_OUT))


def _outer_parts(names: list[Name], tensors: Mapping[str, Tensor], roles: Roles) -> None:
    matrices = [one for one in names if tensors[one.whole].squeeze().ndim == 2 and not one.bias]
    vectors = [one for one in names if one not in matrices]
    fit = [one for one in matrices if roles.d_model in tensors[one.whole].shape and not _SEGMENTS.search(one.within)]
    taken: dict[str, Name] = {}
    for part, pattern in {"positions": _POSITIONS, "unembed": _UNEMBED, "embed": _EMBED}.items():
        called = [one for one in fit if pattern.search(one.within) and one not in taken.values()]
        if called:
            tables = called if "unembed" in taken else [*called, fit[-1]]
            at = {"unembed": -1, "embed": _first_table(tables, taken, tensors, roles)}
            taken[part] = called[at.get(part, 0)]
            others = [one for one in called if one is not taken[part]]
            if part == "embed" and "positions" not in taken and len(others) == 1:
                # Embed_0 and Embed_1: the other embedding is that of positions, if it has so few.
                few = _rows(tensors[others[0].whole], roles.d_model) <= 16
                taken |= {"positions": others.pop()} if few else {}
            roles.left += [one.whole for one in others]
    rest = [one for one in fit if one not in taken.values() and one.whole not in roles.left]
    # The last tensors for the last roles: the order is that of the file, which is that of the module.
    for part, at in (("embed", _first_table(rest, taken, tensors, roles)), ("unembed", -1), ("positions", 0)):
        if part not in taken and rest and (part != "positions" or _rows(tensors[rest[at].whole], roles.d_model) <= 16):
            taken[part] = one = rest.pop(at)
            of = list(tensors[one.whole].shape)
            if not re.search(r"(^|[._])(fc|fc_out|head|out|output|out_proj|output_proj|linear|proj)$", one.within):
                roles.guesses.append(f"{one.whole!r} {of} is the {_WORDS[part]}: the last matrix for the last part")
    for part, one in taken.items():
        roles.parts[part] = (one.whole,)
        if one.whole.split(".")[-1].lower() not in ("weight", "kernel", "embedding", "weights"):
            roles.bare.add(part)
    of_modules = {one.within: part for part, one in taken.items()}
    for one in vectors:
        shape = tensors[one.whole].squeeze().shape
        if one.bias and of_modules.get(one.within) == "unembed":
            roles.parts["unembed.b"] = (one.whole,)
        elif (
            len(shape) == 1
            and shape[0] == roles.d_model
            and not (_EMBED.search(one.within) and _NORM.search(one.within))
        ):
            key = "ln_final.b" if one.bias else "ln_final"
            roles.left.append(one.whole) if key in roles.parts else roles.parts.update({key: (one.whole,)})
        else:
            roles.left.append(one.whole)
    roles.left += [one.whole for one in matrices if one not in taken.values() and one.whole not in roles.left]


def _first_table(rest: list[Name], taken: Mapping[str, Name], tensors: Mapping[str, Tensor], roles: Roles) -> int:
    """Which of some tables is the token embedding: the first with a row for every class, as positions may come before
    it in the file (nn.Parameter before modules)."""
    rows = [_rows(tensors[one.whole], roles.d_model) for one in rest]
    if "unembed" in taken:
        classes, before = _rows(tensors[taken["unembed"].whole], roles.d_model), rows
    else:
        classes, before = rows[-1] if rows else 0, rows[:-1]
    return next((at for at, of in enumerate(before) if of >= classes), 0)


def _rows(tensor: Tensor, d_model: int) -> int:
    shape = [size for size in tensor.shape if size > 1]
    return shape[0] if shape and shape[-1] == d_model else shape[-1] if shape else 1


_WORDS = {"embed": "token embedding", "unembed": "unembedding", "positions": "position embedding"}


# ---- within a layer --------------------------------------------------------------------------------------------------


def _layer_parts(number: int, names: list[Name], tensors: Mapping[str, Tensor], roles: Roles) -> None:
    d_model = roles.d_model
    matrices = [
        one for one in names if tensors[one.whole].ndim >= 2 and tensors[one.whole].squeeze().ndim >= 2 and not one.bias
    ]
    modules: dict[str, list[Name]] = {}
    for one in matrices:
        modules.setdefault(one.within, []).append(one)
    found: dict[str, str] = {}
    for module, tensors_of in modules.items():
        if d_model not in tensors[tensors_of[0].whole].shape:
            continue
        if (part := _called(module, tensors[tensors_of[0].whole].shape, d_model)) and part not in found.values():
            found[module] = part
    number_from_zero(found)
    _last_for_last(found, modules, tensors, roles)
    order_as_biases_say(found, names, tensors, d_model)
    for module, part in found.items():
        ordered = sorted(modules[module], key=lambda one: one.head or 0)
        roles.parts[f"{number}.{part}"] = tuple(one.whole for one in ordered)
        if ordered[0].whole.split(".")[-1].lower() not in ("weight", "kernel", "weights", "in_proj_weight"):
            roles.bare.add(f"{number}.{part}")
    norms: dict[str, dict[str, str]] = {}
    for one in names:
        if any(one.whole in theirs for theirs in roles.parts.values()):
            continue
        if one.within in found and (one.bias or tensors[one.whole].ndim <= 2):
            key = f"{number}.{found[one.within]}.b"
            roles.parts[key] = (*roles.parts.get(key, ()), one.whole)
        elif tensors[one.whole].squeeze().ndim == 1 and tensors[one.whole].numel() == d_model:
            norms.setdefault(one.within, {})["b" if one.bias else "w"] = one.whole
        else:
            roles.left.append(one.whole)
    _norm_parts(number, norms, roles)


def _called(module: str, shape: Shape, d_model: int) -> str | None:
    """The part that a module of a layer is called after."""
    last = module.rpartition(".")[2]
    two = ".".join(module.split(".")[-2:])
    in_mlp = bool(re.search(r"mlp|feed_?forward|(^|[._])(ff|ffn|ffw)([._]|\d|$)", module))
    for part, pattern in _ENDINGS.items():
        if re.fullmatch(pattern, last):
            if part == "qkv" and last == "in_proj" and in_mlp:
                continue
            if part in ("qkv", "kv") and not _is_stacked(shape, d_model):
                continue
            if part in ("q", "k", "v") and in_mlp:
                continue
            return part
    if _ATTENTION.search(module) and not in_mlp:
        return "o" if re.fullmatch(_ATTENTION_OUT, last) or re.fullmatch(_ATTENTION_OUT, two) else None
    if re.search(r"(^|[._])to_out\.\d$", module) or (
        last in ("w_o", "wo", "o_proj", "o", "to_out", "attn_out", "attn_proj", "unify_heads")
        and d_model in shape
        and not in_mlp
    ):
        return "o"
    if re.fullmatch(_MLP_IN, last):
        return "in"
    if last.endswith("0") and re.fullmatch(_MLP_IN, f"{last[:-1]}1"):
        return "zeroth"
    return "out" if re.fullmatch(_MLP_OUT, last) and (in_mlp or last not in ("proj", "out_proj", "out")) else None


def _is_stacked(shape: Sequence[int], d_model: int) -> bool:
    """Whether a matrix can hold several, one under the other."""
    return len(shape) > 2 or max(shape) > d_model or min(shape) < d_model or shape[0] != shape[-1]


def _last_for_last(
    found: dict[str, str], modules: Mapping[str, list[Name]], tensors: Mapping[str, Tensor], roles: Roles
) -> None:
    """Parts that are missing, from modules that have none, in the order of the file."""
    open_, d_model = [module for module in modules if module not in found], roles.d_model
    if {"in", "out"} <= set(found.values()) and "gate" not in found.values() and len(open_) == 1:
        theirs = modules[open_[0]][0].whole
        by_name = {part: tensors[modules[module][0].whole].shape for module, part in found.items()}
        if (
            re.fullmatch(r"w_?3|fc_?3|linear_?3|wi_?2|v|linear_v|up", open_[0].rpartition(".")[2])
            and tensors[theirs].shape == by_name["in"]
        ):
            # LLaMA's w1 is the gate and w3 what it is multiplied with.
            gate = next(module for module, part in found.items() if part == "in")
            found[gate], found[open_[0]] = "gate", "in"
            return
    for module in open_:
        theirs = modules[module][0].whole
        shape = tuple(tensors[theirs].shape)
        if d_model not in shape:
            continue
        parts = set(found.values())
        square = len(shape) == 2 and shape[0] == shape[1]
        heads = len(shape) == 3 or modules[module][0].head is not None
        in_mlp = bool(_MLP.search(module)) and not _ATTENTION.search(module)
        is_attention = bool(_ATTENTION.search(module)) or heads
        order: list[str] = []
        if not in_mlp and "qkv" not in parts and len(shape) == 2 and sorted(shape) == sorted((d_model, 3 * d_model)):
            order = ["qkv"] if not {"q", "k", "v"} & parts else []
        if not order and (is_attention or (square and not in_mlp)):
            order = ["o"] if "qkv" in parts else ["q", "k", "v", "o"]
            order = ["q", "o"] if "kv" in parts else order
        if not order and not is_attention:
            order = ["in", "out"]
        if part := next((part for part in order if part not in parts), None):
            found[module] = part
            if not (in_mlp and re.search(r"\d$", module)) and not (part == "o" and is_attention):
                roles.guesses.append(f"{theirs!r} {list(shape)} is {_PARTS[part]}: the last matrix for the last part")


_PARTS = {
    "q": "W_Q", "k": "W_K", "v": "W_V", "o": "W_O", "in": "W_in", "out": "W_out", "qkv": "a fused q/k/v",
    "kv": "a fused k/v", "gate": "W_gate", "gate_in": "a fused gate and W_in",
}  # fmt: skip


def _norm_parts(number: int, norms: dict[str, dict[str, str]], roles: Roles) -> None:
    """Which norm of a layer is that of the attention, and which that of the MLP."""
    if len(norms) > 2:
        listed = ", ".join(repr(tensor) for of in norms.values() for tensor in of.values())
        roles.doubts.append(f"{len(norms)} norms in a layer ({listed}); our models have two, before or after")
        roles.left += [name for of in norms.values() for name in of.values()]
        return
    places = [_norm_place(module) for module in norms]
    if len(norms) == 2 and len(set(places)) < 2:
        places = ["ln1", "ln2"]  # in the order of the file
    for module, place in zip(norms, places, strict=True):
        for leaf, name in norms[module].items():
            key = f"{number}.{place}" + (".b" if leaf == "b" else "")
            roles.parts[key] = (name,)


def _norm_place(module: str) -> str:
    last = module.rpartition(".")[2]
    if re.search(r"post_att|2|mlp|ffn?|ffw|feed", last if re.search(r"norm|ln", last) else module):
        return "ln2"
    return "ln1"


def _missing(roles: Roles) -> None:
    parts = roles.parts
    if "embed" not in parts:
        roles.missing.append("the token embedding")
    for layer in range(roles.n_layers):
        has = {part.partition(".")[2] for part in parts if part.startswith(f"{layer}.")}
        attention = "qkv" in has or {"q", "kv"} <= has or {"q", "k", "v"} <= has
        if not attention:
            roles.missing.append(f"queries, keys and values of layer {layer}")
        if "gate" in has and not {"in", "gate_in"} & has:
            roles.missing.append(f"what the gate of layer {layer} is multiplied with")
        elif (({"in", "gate_in"} & has) and "out" not in has) or ("out" in has and not {"in", "gate_in"} & has):
            roles.missing.append(f"one of the two matrices of the MLP of layer {layer}")
