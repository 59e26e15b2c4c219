"""A layout of one's own in a TOML file: foreign name → our name, with an einops pattern.

    family = "transformer"
    drop = ["attn.rotary"]

    [tensors]
    "tok.weight" = { to = "embed.W_E", pattern = "d_vocab d_model -> d_vocab d_model" }

`to` is one of our names (`interp.interchange.layouts.tables`), or of TransformerLens' biases. The right side of a
pattern is the shape of ours.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import InputError, check_choice, unknown_name
from interp.interchange.layouts.tables import LAYOUTS, Layout, Rule, check_pattern
from interp.machine import read_bytes


class Mapped(NamedTuple):
    """The layout that a file describes, and the names that are to be left out."""

    layout: Layout
    drop: tuple[str, ...]


_OWN = {"transformer": "transformer-lens", "mlp": "mlp"}
_MORE_OF_MLP = {"mlp.b_in": "d_mlp", "mlp.b_out": "features"}


def our_axes(family: str) -> dict[str, str]:
    """Our names, a layer's with {L}, and the axes of each, as patterns have them on the right."""
    rules = LAYOUTS[_OWN[family]].rules.values()
    axes = {rule.ours.replace("{L}", "blocks.{L}"): rule.pattern.split("->")[1].strip() for rule in rules}
    return axes | (_MORE_OF_MLP if family == "mlp" else {})


def read_mapping(path: Path) -> Mapped:
    """The layout in a mapping file. Raises InputError, naming the file and the entry, for what cannot be."""
    try:
        content = tomllib.loads(read_bytes(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    try:
        return mapping_from_dict(content, str(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def mapping_from_dict(content: Mapping[str, Any], name: str) -> Mapped:
    """The layout that the content of a mapping file describes."""
    for key in content:
        if key not in ("family", "drop", "tensors"):
            raise unknown_name("key of a mapping", key, ("family", "drop", "tensors"))
    family = content.get("family", "transformer")
    check_choice("family", family, _OWN)
    drop, tensors = content.get("drop", []), content.get("tensors", {})
    if not (isinstance(drop, list) and all(isinstance(entry, str) for entry in drop)):
        raise InputError(f"drop must be a list of names, got {drop!r}")
    if not isinstance(tensors, dict) or not tensors:
        raise InputError("[tensors] must have one entry per tensor: name = { to = our name, pattern = theirs -> ours }")
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
    words = ours.split(".")
    template = ".".join(
        "{L}" if words[0] == "blocks" and i == 1 and word.isdecimal() else word for i, word in enumerate(words)
    )
    if template not in axes:
        raise unknown_name(f"name to map {theirs!r} to", ours, [name.replace("{L}", "0") for name in axes])
    pattern = entry.get("pattern", f"{axes[template]} -> {axes[template]}")
    if not isinstance(pattern, str):
        raise InputError(f"the pattern of {theirs!r} must be a text, got {pattern!r}")
    check_pattern(pattern)
    if (seen := " ".join(pattern.split("->")[1].split())) != axes[template]:
        raise InputError(f"the pattern of {theirs!r} makes [{seen}], and {ours} is [{axes[template]}]")
    return Rule(ours, pattern)


def mapping_to_fill_in(shapes: Mapping[str, tuple[int, ...]], recognized: Mapping[str, Rule]) -> str:
    """A mapping file for these tensors; those that are not recognized are left open, as comments."""
    ours = {rule.ours for rule in recognized.values()}
    # Where nothing tells: a transformer has nine matrices, a network with one hidden layer at most four.
    few = sum(len(shape) > 1 for shape in shapes.values()) <= 4
    family = "mlp" if any(name.startswith("mlp.") for name in ours) or (not ours and few) else "transformer"
    axes = {name.replace("{L}", "0"): axes for name, axes in our_axes(family).items()}
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


def _quoted(name: str) -> str:
    """A TOML key: a basic string, which is JSON's, with whatever cannot be printed escaped."""
    text = json.dumps(name, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08X}" for letter in text)
