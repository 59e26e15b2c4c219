"""A layout of one's own in a TOML file: foreign name → our name, with an einops pattern.

    family = "transformer"
    drop = ["attn.rotary"]

    [model]
    n_heads = 4

    [tokens]
    prompt = "a+b="
    p = 113
    constants = [113, 114]

    [tensors]
    "tok.weight" = { to = "embed.W_E", pattern = "d_vocab d_model -> d_vocab d_model" }

A file without `[tensors]` only says what to leave out, or what no tensor tells; the rest is inferred.

`to` is one of our names (`interp.interchange.layouts.tables`), or of TransformerLens' biases and norms. The right side
of a pattern is the shape of ours. A tensor that holds several has a list of entries: `part = [0, 3]` takes the first of
three along the axis `part` of the pattern, `rows = [0, 64]` or `columns` the entries from one to the other before it.
Where every head has a tensor of its own, `head = 0` says which. `[model]` and `[tokens]` say what no tensor tells.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from interp.errors import InputError, check_choice, unknown_name
from interp.experiment import Vocabularies
from interp.interchange.layouts.assignment import Piece
from interp.interchange.layouts.mlp_roles import AXES, HIDDEN
from interp.interchange.layouts.prompts import Tokens, constants_of
from interp.interchange.layouts.tables import LAYOUTS, Layout, Rule, check_pattern
from interp.interchange.plain_files import read_toml, shortened


@dataclass(frozen=True)
class Mapped:
    """The layout that a file describes, and the names that are to be left out; where it cuts, the pieces, with what it
    says of the model and of the tokens."""

    layout: Layout
    drop: tuple[str, ...]
    pieces: Mapping[str, Piece] | None = None
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names_tensors(self) -> bool:
        """Whether it says what the tensors are; one that only drops some, or speaks of the model, leaves that open."""
        return bool(self.layout.rules)


_OWN = {"transformer": "transformer-lens", "mlp": "mlp"}
# What our tables of layouts have not, and our models have.
_MORE_OF_TRANSFORMER = {
    **{f"blocks.{{L}}.{name}": "d_model" for name in ("ln1.w", "ln1.b", "ln2.w", "ln2.b")},
    **{"ln_final.w": "d_model", "ln_final.b": "d_model"},
    **{"blocks.{L}.mlp.W_gate": "d_model d_mlp", "blocks.{L}.mlp.b_gate": "d_mlp"},
}
_KEYS = ("family", "drop", "model", "tokens", "tensors")
_ENTRY = ("to", "pattern", "part", "rows", "columns", "head")
MODEL_FIELDS = (
    *("n_heads", "n_kv", "activation", "causal", "attention_rate", "answer_at", "norm_kind", "norm_order", "epsilon"),
    *("without_parameters", "rotary_base", "rotary_planes", "sinusoids", "scaled_embedding", "score_scale"),
)
_WORDS_OF_FIELDS = {
    "norm_kind": ("layer", "rms"),
    "norm_order": ("pre", "post"),
    "rotary_planes": ("halves", "neighbors"),
    "sinusoids": ("interleaved", "halves"),
    "score_scale": ("√d_head", "none", "√d_model"),
}


def our_axes(family: str) -> dict[str, str]:
    """Our names, a layer's with {L}, and the axes of each, as patterns have them on the right."""
    rules = LAYOUTS[_OWN[family]].rules.values()
    axes = {rule.ours.replace("{L}", "blocks.{L}"): rule.pattern.split("->")[1].strip() for rule in rules}
    return axes | (AXES if family == "mlp" else {})


def _example(name: str) -> str:
    """One of our names for a reader, with the first layer that it can be of."""
    return name.replace("blocks.{L}", "blocks.0").replace("{L}", "1")


def _template(ours: str) -> str:
    """One of our names with {L} for its layer."""
    return HIDDEN.sub("{L}", re.sub(r"^blocks\.\d{1,3}\.", "blocks.{L}.", ours))


def _all_axes(family: str) -> dict[str, str]:
    """Also of what only the files have that cut."""
    return our_axes(family) | (_MORE_OF_TRANSFORMER if family == "transformer" else {})


def read_mapping(path: Path) -> Mapped:
    """The layout in a mapping file. Raises InputError, naming the file and the entry, for what cannot be."""
    content = read_toml(path, "any mapping")
    try:
        return mapping_from_dict(content, str(path))
    except InputError as error:
        raise InputError(f"{path}: {shortened(error)}") from None


def mapping_from_dict(content: Mapping[str, Any], name: str) -> Mapped:
    """The layout that the content of a mapping file describes."""
    for key in content:
        if key not in _KEYS:
            raise unknown_name("key of a mapping", key, _KEYS)
    family = content.get("family", "transformer")
    check_choice("family", family, _OWN)
    drop, tensors = content.get("drop", []), content.get("tensors", {})
    if not (isinstance(drop, list) and all(isinstance(entry, str) for entry in drop)):
        raise InputError(f"drop must be a list of names, got {drop!r}")
    rest = {key: content[key] for key in ("model", "tokens") if key in content}
    if tensors == {} and (drop or rest):
        said = _model(rest.get("model", {})) | _tokens(rest.get("tokens"))
        return Mapped(_Literal(f"mapping {name}", "a mapping file", family, {}), tuple(drop), None, said)
    if not isinstance(tensors, dict) or not tensors:
        raise InputError("[tensors] must have one entry per tensor: name = { to = our name, pattern = theirs -> ours }")
    if "model" in content or "tokens" in content or any(_cuts(entry) for entry in tensors.values()):
        return _with_pieces(content, name, family, tuple(drop))
    rules = {theirs: _rule(theirs, entry, family) for theirs, entry in tensors.items()}
    for ours in _needed(family, {rule.ours for rule in rules.values()}):
        raise InputError(f"[tensors] has no entry that maps to {ours!r}")
    return Mapped(_Literal(f"mapping {name}", "a mapping file", family, rules), tuple(drop))


def _needed(family: str, mapped: set[str]) -> Iterator[str]:
    """Our names that a network of the family cannot do without, and that nothing is mapped to."""
    layers = sorted({int(name.split(".")[1]) for name in mapped if name.startswith("blocks.")})
    for rule in LAYOUTS[_OWN[family]].rules.values():
        for layer in layers or [0] if "{L}" in rule.ours else [0]:
            if not rule.optional and (ours := rule.ours.replace("{L}", f"blocks.{layer}")) not in mapped:
                yield ours


class _Literal(Layout):
    """A layout whose names are taken as they stand, layer numbers included."""

    def find(self, name: str) -> tuple[Rule, int | None] | None:
        rule = self.rules.get(name)
        if rule is None or not rule.ours.startswith("blocks."):
            return None if rule is None else (rule, None)
        _, layer, rest = rule.ours.split(".", 2)
        return Rule(f"{{L}}.{rest}", rule.pattern, rule.optional), int(layer)

    def spelled(self, name: str, layer: int | None) -> str:
        return name


def _rule(theirs: str, entry: Any, family: str) -> Rule:
    if not isinstance(entry, dict) or set(entry) - {"to", "pattern"} or not isinstance(entry.get("to"), str):
        raise InputError(
            f'the entry of {theirs!r} must be {{ to = "our name", pattern = "theirs -> ours" }}, got {entry!r}'
        )
    axes, ours = our_axes(family), entry["to"]
    template = _template(ours)
    if template not in axes:
        raise unknown_name(f"name to map {theirs!r} to", ours, [*map(_example, axes)])
    pattern = entry.get("pattern", f"{axes[template]} -> {axes[template]}")
    if not isinstance(pattern, str):
        raise InputError(f"the pattern of {theirs!r} must be a text, got {pattern!r}")
    check_pattern(pattern)
    if (seen := " ".join(pattern.split("->")[1].split())) != axes[template]:
        raise InputError(f"the pattern of {theirs!r} makes [{seen}], and {ours} is [{axes[template]}]")
    return Rule(ours, pattern)


# ---- files that cut --------------------------------------------------------------------------------------------------


def _cuts(entry: Any) -> bool:
    """Whether an entry does more than name and turn a tensor."""
    return isinstance(entry, list) or (
        isinstance(entry, dict) and bool(set(entry) & {"part", "rows", "columns", "head"})
    )


def _with_pieces(content: Mapping[str, Any], name: str, family: str, drop: tuple[str, ...]) -> Mapped:
    """A mapping with pieces, fields of the model and tokens."""
    pieces: dict[str, Piece] = {}
    heads: dict[str, dict[int, str]] = {}
    rules = {}
    for theirs, entries in content["tensors"].items():
        for entry in entries if isinstance(entries, list) else [entries]:
            piece, ours, head = _piece(theirs, entry, family)
            if head is not None:
                heads.setdefault(ours, {})[head] = theirs
            elif ours in pieces:
                raise InputError(f"{pieces[ours].theirs[0]!r} and {theirs!r} would both be {ours}")
            pieces[ours] = piece
            rules[theirs] = Rule(ours, piece.pattern)
    for ours, of in heads.items():
        if sorted(of) != list(range(len(of))):
            raise InputError(f"the heads of {ours} are numbered {sorted(of)}, expected 0 to {len(of) - 1}")
        pieces[ours] = pieces[ours]._replace(theirs=tuple(of[head] for head in sorted(of)))
    needed = "mlp.W_in" if family == "mlp" else "embed.W_E"
    if needed not in pieces:
        raise InputError(f"[tensors] has no entry that maps to {needed!r}")
    layout = _Literal(f"mapping {name}", "a mapping file", "mlp" if family == "mlp" else "transformer", rules)
    return Mapped(layout, drop, pieces, _model(content.get("model", {})) | _tokens(content.get("tokens")))


def _piece(theirs: str, entry: Any, family: str) -> tuple[Piece, str, int | None]:
    """The piece of an entry, what it is of ours, and of which head."""
    if not isinstance(entry, dict) or set(entry) - set(_ENTRY) or not isinstance(entry.get("to"), str):
        raise InputError(
            f'an entry of {theirs!r} must be {{ to = "our name", pattern = "theirs -> ours" }}, with part, rows, '
            f"columns or head where it is cut, got {entry!r}"
        )
    axes, ours = _all_axes(family), entry["to"]
    template = _template(ours)
    if template not in axes:
        raise unknown_name(f"name to map {theirs!r} to", ours, [*map(_example, axes)])
    head = _number(theirs, "head", entry["head"]) if "head" in entry else None
    expected = axes[template].split(" ", 1)[1] if head is not None else axes[template]
    pattern = entry.get("pattern", f"{expected} -> {expected}")
    if not isinstance(pattern, str):
        raise InputError(f"the pattern of {theirs!r} must be a text, got {pattern!r}")
    check_pattern(pattern)
    left, right = (" ".join(side.split()) for side in pattern.split("->"))
    if right.removeprefix("part ").replace("n_kv", "n_heads") != expected or ("part" in right.split()) != (
        "part" in entry
    ):
        raise InputError(
            f"the pattern of {theirs!r} makes [{right}], and {ours} is [{expected}]"
            f"{', after the axis part' if 'part' in entry else ''}"
        )
    part, parts = _two(theirs, "part", entry["part"]) if "part" in entry else (None, 1)
    cut = None
    for axis, key in enumerate(("rows", "columns")):
        if key in entry:
            cut = (axis, *_two(theirs, key, entry[key]))
    if head is not None:
        left, right = f"n_heads {left}", f"n_heads {right}"
    return Piece((theirs,), f"{left} -> {right}", part, parts, cut), ours, head


def _number(theirs: str, key: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 10**6:
        raise InputError(f"{key} of {theirs!r} must be a number from 0 on, got {value!r}")
    return value


def _two(theirs: str, key: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise InputError(f"{key} of {theirs!r} must be two numbers, as in {key} = [0, 3], got {value!r}")
    one, other = (_number(theirs, key, number) for number in value)
    if one >= other:
        raise InputError(f"{key} of {theirs!r} must be two numbers, the first below the second, got {value!r}")
    return one, other


def _model(fields: Any) -> dict[str, Any]:
    """What a file says of the model, as questions and their answers."""
    if not isinstance(fields, dict):
        raise InputError(f"[model] must be fields, such as n_heads = 4, got {fields!r}")
    for name, value in fields.items():
        if name not in MODEL_FIELDS:
            raise unknown_name("field of [model]", name, MODEL_FIELDS)
        if name in _WORDS_OF_FIELDS:
            check_choice(f"{name} of [model]", value, _WORDS_OF_FIELDS[name])
        elif name in ("n_heads", "n_kv") and (type(value) is not int or value < 1):
            raise InputError(f"{name} of [model] must be a number from 1 on, got {value!r}")
        elif name in ("causal", "scaled_embedding") and type(value) is not bool:
            raise InputError(f"{name} of [model] must be true or false, got {value!r}")
        elif name in ("epsilon", "rotary_base", "attention_rate") and type(value) not in (int, float):
            raise InputError(f"{name} of [model] must be a number, got {value!r}")
    known = {name: value for name, value in fields.items() if name not in ("rotary_base", "rotary_planes", "sinusoids")}
    if "rotary_base" in fields:
        planes = fields.get("rotary_planes") == "neighbors"
        known["positions"] = (("rotary_base", float(fields["rotary_base"])), ("interleaved", planes))
    elif "sinusoids" in fields:
        known["positions"] = (("positions", fields["sinusoids"]),)
    if "without_parameters" in fields:
        words = fields["without_parameters"]
        if (
            not isinstance(words, list)
            or len(words) < 3
            or words[0] not in ("layer", "rms")
            or words[-1] not in ("pre", "post")
        ):
            raise InputError(
                'without_parameters of [model] must be kind, places and order, as in ["layer", "attention", "pre"], '
                f"got {words!r}"
            )
        known["without_parameters"] = (words[0], tuple(words[1:-1]), words[-1])
    return known


def _tokens(fields: Any) -> dict[str, Any]:
    if fields is None:
        return {}
    names = ("prompt", "p", "residues", "classes", "constants", "vocabularies")
    if not isinstance(fields, dict) or not {"prompt", "p"} <= set(fields):
        raise InputError(f'[tokens] must have prompt and p at least, as in prompt = "ab=", p = 113, got {fields!r}')
    if wrong := next((name for name in fields if name not in names), None):
        raise unknown_name("field of [tokens]", wrong, names)
    prompt, constants = fields["prompt"], fields.get("constants", [])
    if not isinstance(prompt, str) or prompt.count("a") != 1 or prompt.count("b") != 1 or len(prompt) > 16:
        raise InputError(f"prompt of [tokens] must have a and b, each once, as in 'a+b=', got {prompt!r}")
    vocabularies = fields.get("vocabularies", "one")
    check_choice("vocabularies of [tokens]", vocabularies, get_args(Vocabularies))
    first, classes = (_number("tokens", key, fields.get(key, 0)) for key in ("residues", "classes"))
    p = _number("tokens", "p", fields["p"])
    if p < 2 or not isinstance(constants, list) or len(constants) != len(constants_of(prompt)):
        raise InputError(
            f"[tokens] with the prompt {prompt!r} must have a p of 2 or more, and in constants a number for each of "
            f"{constants_of(prompt)!r}, got p = {p} and {constants!r}"
        )
    numbers = tuple(_number("tokens", "constants", number) for number in constants)
    return {"tokens": Tokens(prompt, p, vocabularies, first, numbers, classes)}


# ---- writing ---------------------------------------------------------------------------------------------------------


def mapping_to_fill_in(shapes: Mapping[str, tuple[int, ...]], recognized: Mapping[str, Rule]) -> str:
    """A mapping file for these tensors; those that are not recognized are left open, as comments."""
    ours = {rule.ours for rule in recognized.values()}
    # Where nothing tells: a transformer has nine matrices, a network with one hidden layer at most four.
    few = sum(len(shape) > 1 for shape in shapes.values()) <= 4
    family = "mlp" if any(name.startswith("mlp.") for name in ours) or (not ours and few) else "transformer"
    axes = {_example(name): axes for name, axes in our_axes(family).items()}
    lines = ["# Ours -> axes:", *(f"#   {name:<22} {sides}" for name, sides in axes.items())]
    lines += [f'family = "{family}"', "drop = []", "", "[tensors]"]
    for name, shape in shapes.items():
        rule = recognized.get(name)
        entry = (
            f'{_quoted(name)} = {{ to = "{rule.ours if rule else "?"}", pattern = '
            f'"{rule.pattern if rule else "? -> ?"}" }}'
        )
        lines.append(f"{'' if rule else '# '}{entry}  # {list(shape)}")
    return "\n".join(lines) + "\n"


def mapping_of(
    pieces: Mapping[str, Piece], fields: Mapping[str, Any], tokens: Tokens | None, drop: Iterator[str] | tuple[str, ...]
) -> str:
    """A mapping file that says all of a reading: every piece, what was guessed of the model, and of the tokens."""
    family = "mlp" if any(name.startswith("mlp.") for name in pieces) else "transformer"
    lines = [f'family = "{family}"', f"drop = [{', '.join(_quoted(name) for name in drop)}]"]
    if fields:
        lines += ["", "[model]", *(f"{name} = {_value(value)}" for name, value in fields.items())]
    if tokens is not None:
        lines += ["", "[tokens]", f"prompt = {_value(tokens.prompt)}", f"p = {tokens.p}", f"residues = {tokens.first}"]
        lines += [f"constants = {_value(list(tokens.constants))}", f"classes = {tokens.first_class}"]
        lines += [f"vocabularies = {_value(tokens.vocabularies)}"]
    entries: dict[str, list[str]] = {}
    for ours, piece in pieces.items():
        for head, theirs in enumerate(piece.theirs):
            left, right = (" ".join(side.split()) for side in piece.pattern.split("->"))
            more = ""
            if len(piece.theirs) > 1:
                left, right = left.split(" ", 1)[1], right.split(" ", 1)[1]
                more = f", head = {head}"
            if piece.part is not None:
                more += f", part = [{piece.part}, {piece.parts}]"
            if piece.cut is not None:
                more += f", {('rows', 'columns')[piece.cut[0]]} = [{piece.cut[1]}, {piece.cut[2]}]"
            entries.setdefault(theirs, []).append(f'{{ to = "{ours}", pattern = "{left} -> {right}"{more} }}')
    lines += ["", "[tensors]"]
    for theirs, of in entries.items():
        lines.append(f"{_quoted(theirs)} = {of[0]}" if len(of) == 1 else f"{_quoted(theirs)} = [")
        lines += [f"    {one}," for one in of] + ["]"] if len(of) > 1 else []
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(name: str) -> str:
    """A TOML key: a basic string, which is JSON's, with whatever cannot be printed escaped."""
    text = json.dumps(name, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08X}" for letter in text)
