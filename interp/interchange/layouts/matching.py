"""Recognizing a layout by names and shapes, and turning tensors from it into ours and back."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from interp.errors import InputError
from interp.interchange.layouts.tables import LAYOUTS, Layout, Rule
from interp.models import Weights

Shape = tuple[int, ...]


class Recognized(NamedTuple):
    """One of their tensors that a rule speaks of."""

    theirs: str
    rule: Rule


@dataclass(frozen=True)
class Match:
    """A layout that fits: for each of our names what it is made of, the sizes of the axes, and their tensors of no use
    to it."""

    layout: Layout
    tensors: Mapping[str, Recognized]
    sizes: Mapping[str, int]
    left_over: tuple[str, ...]


class Mismatch(NamedTuple):
    """Why a layout does not fit, and what was found of it: for each of our names what it would be made of."""

    layout: Layout
    reason: str
    tensors: Mapping[str, Recognized]

    @property
    def found(self) -> int:
        return len(self.tensors)


def match(layout: Layout, shapes: Mapping[str, Shape], known: Mapping[str, int] | None = None) -> Match | Mismatch:
    """Whether tensors of these names and shapes are in a layout. `known` are sizes that are given (`n_heads`, `p`,
    …)."""
    best: Match | Mismatch | None = None
    for prefix in _prefixes(shapes):
        inside = {name.removeprefix(prefix): name for name in shapes if name.startswith(prefix)}
        outcome = _match_inside(layout, {short: shapes[name] for short, name in inside.items()}, dict(known or {}))
        tensors = {ours: Recognized(inside[theirs], rule) for ours, (theirs, rule) in outcome.tensors.items()}
        if isinstance(outcome, Match):
            used = {entry.theirs for entry in tensors.values()}
            return Match(layout, tensors, outcome.sizes, tuple(name for name in shapes if name not in used))
        if not isinstance(best, Mismatch) or outcome.found > best.found:
            best = outcome._replace(tensors=tensors)
    return best or Mismatch(layout, "there are no tensors", {})


def recognize(
    shapes: Mapping[str, Shape], layouts: Iterable[Layout] = LAYOUTS.values(), known: Mapping[str, int] | None = None
) -> list[Match]:
    """Every layout that fits, those that leave the least over first. Where shapes are ambiguous there are several."""
    different: dict[tuple, Match] = {}
    for layout in layouts:
        if isinstance(outcome := match(layout, shapes, known), Match):
            meaning = tuple(sorted((ours, theirs, rule.pattern) for ours, (theirs, rule) in outcome.tensors.items()))
            different.setdefault(meaning, outcome)
    return sorted(different.values(), key=lambda found: len(found.left_over))


def nearest(
    layouts: Iterable[Layout], shapes: Mapping[str, Shape], known: Mapping[str, int] | None = None
) -> Mismatch | None:
    """Of the layouts that do not fit, the one of which most tensors are there."""
    misses = [outcome for layout in layouts if isinstance(outcome := match(layout, shapes, known), Mismatch)]
    return max(misses, key=lambda miss: miss.found, default=None)


def _prefixes(names: Iterable[str]) -> list[str]:
    """What all of a network's names may begin with, such as `module.`: nothing, or whole words before a dot, shortest
    first."""
    parts = (name.split(".")[:-1] for name in names)
    found = {".".join(words[:n]) + "." for words in parts for n in range(1, min(len(words), 4) + 1)}
    return ["", *sorted(found, key=lambda prefix: (prefix.count("."), prefix))][:64]


def _match_inside(layout: Layout, shapes: Mapping[str, Shape], known: dict[str, int]) -> Match | Mismatch:
    tensors: dict[str, Recognized] = {}
    layers: set[int] = set()
    for name in shapes:
        if (found := layout.find(name)) is None:
            continue
        rule, layer = found
        ours = our_name(rule, layer)
        if ours in tensors:
            return Mismatch(layout, f"{tensors[ours].theirs!r} and {name!r} would both be {ours}", tensors)
        tensors[ours] = Recognized(name, rule)
        layers |= {layer} if layer is not None else set()
    if layers and layers != set(range(len(layers))):
        return Mismatch(layout, f"it has layers {', '.join(map(str, sorted(layers)))}", tensors)
    for theirs, rule in layout.rules.items():
        for layer in sorted(layers) or [0] if "{L}" in rule.ours else [None]:
            if not rule.optional and our_name(rule, layer) not in tensors:
                missing = layout.spelled(theirs, layer)
                return Mismatch(layout, f"{missing} is missing", tensors)
    known = known | ({"n_layers": len(layers)} if layers else {})
    try:
        sizes = unify(
            {entry.theirs: (entry.rule.pattern.split("->")[0], shapes[entry.theirs]) for entry in tensors.values()},
            known,
        )
    except InputError as error:
        return Mismatch(layout, str(error), tensors)
    return Match(layout, tensors, sizes, ())


def our_name(rule: Rule, layer: int | None) -> str:
    """Our name of a rule's tensor in a layer."""
    return rule.ours if layer is None else rule.ours.replace("{L}", f"blocks.{layer}")


def unify(tensors: Mapping[str, tuple[str, Shape]], known: Mapping[str, int]) -> dict[str, int]:
    """The size of every axis, from axes and shape of every tensor; one of a product may stay unknown only together with
    another.

    Raises InputError, naming the tensor, where sizes contradict each other.
    """
    sizes, said_by = dict(known), dict.fromkeys(known, "as given")
    products = []
    for name, (pattern, shape) in tensors.items():
        axes = split_axes(pattern)
        if len(axes) != len(shape):
            raise InputError(f"{name} has shape {list(shape)}, expected [{', '.join(pattern.split())}]")
        if 0 in shape:
            raise InputError(f"{name} has shape {list(shape)}: it is empty")
        for group, size in zip(axes, shape, strict=True):
            if len(group) != 1:
                products.append((name, group, size))
            elif sizes.setdefault(group[0], size) != size:
                other = said_by[group[0]]
                raise InputError(
                    f"{name} has shape {list(shape)}, so {group[0]} would be {size}, and it is {sizes[group[0]]} "
                    f"({other})"
                )
            else:
                said_by.setdefault(group[0], f"from {name}")
    for name, group, size in products:
        unknown = [axis for axis in group if axis not in sizes]
        rest = math.prod(sizes[axis] for axis in group if axis in sizes)
        if len(unknown) > 1:
            continue
        if rest < 1 or size % rest or (not unknown and rest != size):
            raise InputError(
                f"{name} has an axis of {size}, expected {'·'.join(group) or 1}, and {rest} is no factor that fits"
            )
        if unknown:
            sizes[unknown[0]] = size // rest
    return sizes


def split_axes(side: str) -> list[list[str]]:
    """The axes of one side of a pattern, those in brackets together, none for a 1: `1 a (b c)` → [[], [a], [b, c]]."""
    return [re.findall(r"(?!1\b)\w+", group) for group in re.findall(r"\([^)]*\)|\w+", side)]


def converted(found: Match, tensors: Mapping[str, Tensor]) -> Weights:
    """The tensors under our names, in our orientation, float32, each with memory of its own."""
    weights = {}
    for ours, (theirs, rule) in found.tensors.items():
        turned = rearrange(tensors[theirs], rule.pattern, **_used(rule.pattern, found.sizes))
        weights[ours] = turned.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return weights


def written(layout: Layout, weights: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Our weights in a layout, under the first spelling of every name: what `converted` undoes, bit for bit.

    Raises InputError for a tensor that the layout has no place for.
    """
    places = {}
    for theirs, rule in layout.rules.items():
        for layer in range(sizes["n_layers"]) if "{L}" in rule.ours else [None]:
            places[our_name(rule, layer)] = layout.spelled(theirs, layer), rule
    if absent := next((name for name in weights if name not in places), None):
        raise InputError(f"the layout {layout.name!r} has no place for {absent}")
    found = {}
    for name, (theirs, rule) in places.items():
        if name in weights:
            found[theirs] = rearrange(weights[name], rule.backwards, **_used(rule.pattern, sizes)).contiguous().clone()
    return found


def _used(pattern: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that einops needs: those of axes in brackets."""
    grouped = {axis for group in split_axes(pattern.replace("->", " ")) if len(group) > 1 for axis in group}
    return {axis: sizes[axis] for axis in grouped if axis in sizes}
