"""From the roles of a stranger's tensors to our names: which tensor, which part of it, turned how.

What names and shapes leave open (how many heads, which way round a square matrix is, in which order a fused matrix is
cut) is a *guess*: each question has its options, the default first, and `Assignment.weights` answers for any choice of
them. Running the network decides (`interp.interchange.importing.search`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from interp.errors import InputError
from interp.interchange.layouts.heads import head_facts, numbers_of_heads
from interp.interchange.layouts.roles import Roles
from interp.models import Weights

_ORDERS = ("qkv", "kqv", "qvk", "vqk", "kvq", "vkq")


class Piece(NamedTuple):
    """Where one of our weights is: their tensors (several: one for each head), of these the entries `start` to `stop`
    along `axis`, turned by an einops pattern `theirs -> ours`; of an axis `part` that it makes, that one."""

    theirs: tuple[str, ...]
    pattern: str
    part: int | None = None
    parts: int = 1
    cut: tuple[int, int, int] | None = None  # axis, start, stop

    def taken(self, tensors: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Tensor:
        """The weight, float32, with memory of its own."""
        first, *others = (tensors[name] for name in self.theirs)
        tensor = torch.stack([first, *others]) if others else first
        if self.cut is not None:
            axis, start, stop = self.cut
            tensor = tensor.narrow(axis, start, stop - start)
        words = set(re.findall(r"\w+", self.pattern))
        grouped = {"n_heads": sizes.get("n_heads", 1), "n_kv": sizes.get("n_kv", 0), "part": self.parts}
        known = {name: size for name, size in grouped.items() if name in words and "(" in self.pattern}
        turned = rearrange(tensor, self.pattern, **known)
        turned = turned if self.part is None else turned[self.part]
        return turned.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Assignment:
    """What every one of our weights is made of, and what is open: a question → its options, the default first."""

    roles: Roles
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # d_heads, gated, norms, … as the roles tell

    @property
    def used(self) -> set[str]:
        """Their tensors that are read."""
        return {name for theirs in self.roles.parts.values() for name in theirs}

    def pieces(self, guess: Mapping[str, Any]) -> dict[str, Piece]:
        """Our name → where it is, as guessed."""
        return _Pieces(self, guess).all()

    def weights(self, tensors: Mapping[str, Tensor], guess: Mapping[str, Any]) -> Weights:
        """The tensors under our names, the whole vocabulary, biases as they are. Raises InputError for a guess that the
        shapes do not allow."""
        heads = guess["n_heads"]
        weights = {}
        for ours, piece in self.pieces(guess).items():
            sizes = {"n_heads": heads, "n_kv": self._key_heads(heads)}
            try:
                weights[ours] = piece.taken(tensors, sizes)
            except Exception as error:  # einops says in its own words what does not divide
                raise InputError(f"{ours} cannot be {piece.pattern!r} of {piece.theirs[0]!r}: {error}") from None
            weights[ours] = for_every_head(ours, weights[ours], heads)
        return weights

    def _key_heads(self, heads: int) -> int:
        width, of_keys = self.facts["head_widths"]
        return heads if width == of_keys else max(of_keys * heads // width, 1)


def for_every_head(ours: str, weight: Tensor, heads: int) -> Tensor:
    """Keys and values of grouped queries: several heads share these, which is the same as each having a copy."""
    shared = ours.rpartition(".")[2] in ("W_K", "W_V", "b_K", "b_V") and len(weight) < heads
    return weight.repeat_interleave(heads // len(weight), 0) if shared else weight


def assign(roles: Roles, tensors: Mapping[str, Tensor], given: Mapping[str, Any] | None = None) -> Assignment:
    """The assignment that roles give, with what they leave open.

    Raises InputError, in words, for roles that are no network of ours.
    """
    given = given or {}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if roles.missing:
        raise InputError(f"{' and '.join(roles.missing)} could not be found")
    facts = head_facts(roles, shapes)
    options: dict[str, tuple[Any, ...]] = {"n_heads": numbers_of_heads(facts, roles, tensors, given)}
    options |= _orientations(roles, shapes)
    parts = roles.parts
    if "0.qkv" in parts:
        named = "kqv" if re.search("kqv", parts["0.qkv"][0].lower()) else "qkv"
        orders = (named, *(order for order in _ORDERS if order != named))
        ways = [("thirds", orders[0]), ("by head", orders[0]), ("by entry", orders[0])]
        ways += [(way, order) for order in orders[1:] for way in ("thirds", "by head")]
        equal = facts["head_widths"][0] == facts["head_widths"][1]
        options["cut"] = tuple(ways) if equal else (("thirds", "qkv"),)
    elif "0.q" in parts:
        options["cut"] = tuple(("apart", order) for order in _ORDERS)
    if "0.gate_in" in parts or "0.gate" in parts:
        options["gate first"] = (True, False)
    return Assignment(roles, shapes, options, tuple(roles.guesses), facts)


def _orientations(roles: Roles, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[bool, ...]]:
    """Whether square matrices are [out, in], as nn.Linear has them, or [in, out]. A matrix that is not square, where
    there is one, tells the convention."""
    parts, d_model = roles.parts, roles.d_model
    convention = None
    for part in ("0.in", "0.gate_in", "0.qkv"):
        if part in parts and len(shape := shapes[parts[part][0]]) == 2 and shape[0] != shape[1]:
            convention = convention if convention is not None else shape[-1] == d_model
    open_: dict[str, tuple[bool, ...]] = {}
    groups = {"attention [out, in]": ("0.q", "0.qkv"), "W_O [out, in]": ("0.o",), "mlp [out, in]": ("0.in",)}
    for question, group in groups.items():
        part = next((part for part in group if part in parts), None)
        if part is None or len(parts[part]) > 1:
            continue
        shape = shapes[parts[part][0]]
        if len(shape) == 2 and shape[0] == shape[1] == d_model:
            default = part not in roles.bare if convention is None else convention
            open_[question] = (default, not default)
    return open_


class _Pieces:
    """The pieces of one guess."""

    def __init__(self, assignment: Assignment, guess: Mapping[str, Any]) -> None:
        self.roles, self.shapes, self.guess = assignment.roles, assignment.shapes, guess
        self.d_model, self.widths = assignment.roles.d_model, assignment.facts["head_widths"]

    def all(self) -> dict[str, Piece]:
        parts = self.roles.parts
        found = {"embed.W_E": self._table("embed", "d_vocab d_model")}
        if "positions" in parts:
            found["pos_embed.W_pos"] = self._table("positions", "n_ctx d_model")
        if "unembed" in parts:
            turned = self._table("unembed", "d_out d_model")
            found["unembed.W_U"] = turned._replace(pattern=turned.pattern.split("->")[0] + "-> d_model d_out")
            if self.shapes[parts["unembed"][0]] == (self.d_model, self.d_model) and "unembed" in self.roles.bare:
                found["unembed.W_U"] = turned._replace(pattern="d_model d_out -> d_model d_out")
        found |= self._vector("unembed.b", "unembed.b_U", "d_out")
        found |= self._vector("ln_final", "ln_final.w") | self._vector("ln_final.b", "ln_final.b")
        for layer in range(self.roles.n_layers):
            block = f"blocks.{layer}"
            for norm in ("ln1", "ln2"):
                found |= self._vector(f"{layer}.{norm}", f"{block}.{norm}.w")
                found |= self._vector(f"{layer}.{norm}.b", f"{block}.{norm}.b")
            found |= self._attention(layer, f"{block}.attn") | self._mlp(layer, f"{block}.mlp")
        return found

    def _table(self, part: str, axes: str) -> Piece:
        """An embedding, whichever way round it is, without axes of size 1."""
        name = self.roles.parts[part][0]
        shape = self.shapes[name]
        rows = axes.split(maxsplit=1)[0]
        sizes = [size for size in shape if size != 1] if len(shape) > 2 else [*shape]
        if len(sizes) != 2:
            raise InputError(f"{name!r} {list(shape)} is no table of vectors")
        order = [rows, "d_model"] if sizes[1] == self.d_model else ["d_model", rows]
        left = iter(order)
        spelled = " ".join(next(left) if len(shape) == 2 or size != 1 else "1" for size in shape)
        return Piece((name,), f"{spelled} -> {axes}")

    def _vector(self, part: str, ours: str, axis: str = "d_model") -> dict[str, Piece]:
        if part not in self.roles.parts:
            return {}
        name = self.roles.parts[part][0]
        ones = " ".join(axis if size != 1 or len(self.shapes[name]) == 1 else "1" for size in self.shapes[name])
        return {ours: Piece((name,), f"{ones} -> {axis}")}

    # ---- attention

    def _attention(self, layer: int, attn: str) -> dict[str, Piece]:
        parts, found = self.roles.parts, {}
        if f"{layer}.qkv" in parts:
            found |= self._fused(layer, attn)
        else:
            _, order = self.guess["cut"]
            for place, letter in enumerate("qkv"):
                source = order[place]
                if f"{layer}.kv" in parts and letter in "kv":
                    found |= self._key_value(layer, attn, letter)
                    continue
                found[f"{attn}.W_{letter.upper()}"] = self._of_heads(
                    f"{layer}.{source}", "n_kv" if letter in "kv" else "n_heads"
                )
                if f"{layer}.{source}.b" in parts:
                    found[f"{attn}.b_{letter.upper()}"] = self._bias_of_heads(f"{layer}.{source}.b", letter)
        if f"{layer}.o" in parts:
            found[f"{attn}.W_O"] = self._output(f"{layer}.o")
        found |= self._vector(f"{layer}.o.b", f"{attn}.b_O")
        return found

    def _is_linear(self, name: str, question: str) -> bool:
        shape = self.shapes[name]
        return self.guess[question] if question in self.guess and shape[0] == shape[1] else shape[-1] == self.d_model

    def _of_heads(self, part: str, heads: str) -> Piece:
        names = self.roles.parts[part]
        first = names[0]
        shape = self.shapes[first]
        if len(names) > 1:
            inner = "d_head d_model" if shape[-1] == self.d_model else "d_model d_head"
            return Piece(names, f"{heads} {inner} -> {heads} d_model d_head")
        if len(shape) == 3:
            axes = {0: f"d_model {heads} d_head", 1: f"{heads} d_model d_head", 2: f"{heads} d_head d_model"}
            return Piece(names, f"{axes[_axis(shape, self.d_model)]} -> {heads} d_model d_head")
        left = (
            f"({heads} d_head) d_model"
            if self._is_linear(first, "attention [out, in]")
            else f"d_model ({heads} d_head)"
        )
        return Piece(names, f"{left} -> {heads} d_model d_head")

    def _bias_of_heads(self, part: str, letter: str) -> Piece:
        names, heads = self.roles.parts[part], "n_kv" if letter in "kv" else "n_heads"
        first = names[0]
        if len(names) > 1 or len(self.shapes[first]) == 2:
            return Piece(names, f"{heads} d_head -> {heads} d_head")
        return Piece(names, f"({heads} d_head) -> {heads} d_head")

    def _output(self, part: str) -> Piece:
        names = self.roles.parts[part]
        shape = self.shapes[names[0]]
        if len(names) > 1:
            inner = "d_model d_head" if shape[0] == self.d_model and shape[0] != shape[-1] else "d_head d_model"
            return Piece(names, f"n_heads {inner} -> n_heads d_head d_model")
        if len(shape) == 3:
            place = [at for at, size in enumerate(shape) if size == self.d_model][-1]
            axes = {2: "n_heads d_head d_model", 1: "n_heads d_model d_head", 0: "d_model n_heads d_head"}
            return Piece(names, f"{axes[place]} -> n_heads d_head d_model")
        linear = (
            self.guess["W_O [out, in]"]
            if "W_O [out, in]" in self.guess and shape[0] == shape[1]
            else shape[0] == self.d_model
        )
        left = "d_model (n_heads d_head)" if linear else "(n_heads d_head) d_model"
        return Piece(names, f"{left} -> n_heads d_head d_model")

    def _fused(self, layer: int, attn: str) -> dict[str, Piece]:
        names = self.roles.parts[f"{layer}.qkv"]
        shape, bias = self.shapes[names[0]], self.roles.parts.get(f"{layer}.qkv.b")
        way, order = self.guess["cut"]
        found = {}
        width, of_keys = self.widths
        linear = shape[-1] == self.d_model
        if len(shape) != 2:
            raise InputError(f"{names[0]!r} {list(shape)}: a fused q/k/v of {len(shape)} axes is not known")
        for letter in "qkv":
            part, upper = order.index(letter), letter.upper()
            if width != of_keys:  # queries first, then keys and values of fewer heads
                start = {"q": 0, "k": width, "v": width + of_keys}[letter]
                heads, rows = ("n_heads", width) if letter == "q" else ("n_kv", of_keys)
                axes = f"({heads} d_head)"
                cut = (0 if linear else 1, start, start + rows)
                left = f"{axes} d_model" if linear else f"d_model {axes}"
                found[f"{attn}.W_{upper}"] = Piece(names, f"{left} -> {heads} d_model d_head", cut=cut)
                if bias:
                    found[f"{attn}.b_{upper}"] = Piece(bias, f"{axes} -> {heads} d_head", cut=(0, start, start + rows))
                continue
            axes = {
                "thirds": "(part n_heads d_head)",
                "by head": "(n_heads part d_head)",
                "by entry": "(n_heads d_head part)",
            }[way]
            left = f"{axes} d_model" if linear else f"d_model {axes}"
            found[f"{attn}.W_{upper}"] = Piece(names, f"{left} -> part n_heads d_model d_head", part, 3)
            if bias:
                found[f"{attn}.b_{upper}"] = Piece(bias, f"{axes} -> part n_heads d_head", part, 3)
        return found

    def _key_value(self, layer: int, attn: str, letter: str) -> dict[str, Piece]:
        names, bias = self.roles.parts[f"{layer}.kv"], self.roles.parts.get(f"{layer}.kv.b")
        linear = self.shapes[names[0]][-1] == self.d_model
        axes, part = "(part n_kv d_head)", "kv".index(letter)
        left = f"{axes} d_model" if linear else f"d_model {axes}"
        found = {f"{attn}.W_{letter.upper()}": Piece(names, f"{left} -> part n_kv d_model d_head", part, 2)}
        if bias:
            found[f"{attn}.b_{letter.upper()}"] = Piece(bias, f"{axes} -> part n_kv d_head", part, 2)
        return found

    # ---- MLP

    def _mlp(self, layer: int, mlp: str) -> dict[str, Piece]:
        parts, found = self.roles.parts, {}
        first = self.guess.get("gate first", True)
        if f"{layer}.gate_in" in parts:
            names = parts[f"{layer}.gate_in"]
            linear = self._is_linear(names[0], "mlp [out, in]")
            left = "(part d_mlp) d_model" if linear else "d_model (part d_mlp)"
            for ours, part in (("W_gate", 0 if first else 1), ("W_in", 1 if first else 0)):
                found[f"{mlp}.{ours}"] = Piece(names, f"{left} -> part d_model d_mlp", part, 2)
            if bias := parts.get(f"{layer}.gate_in.b"):
                found[f"{mlp}.b_gate"] = Piece(bias, "(part d_mlp) -> part d_mlp", 0 if first else 1, 2)
                found[f"{mlp}.b_in"] = Piece(bias, "(part d_mlp) -> part d_mlp", 1 if first else 0, 2)
        gate, into = ("gate", "in") if first else ("in", "gate")
        if f"{layer}.gate" in parts:
            found[f"{mlp}.W_gate"] = self._matrix(f"{layer}.{gate}", "d_model", "d_mlp")
            found |= self._vector(f"{layer}.{gate}.b", f"{mlp}.b_gate", "d_mlp")
            found[f"{mlp}.W_in"] = self._matrix(f"{layer}.{into}", "d_model", "d_mlp")
            found |= self._vector(f"{layer}.{into}.b", f"{mlp}.b_in", "d_mlp")
        elif f"{layer}.in" in parts:
            found[f"{mlp}.W_in"] = self._matrix(f"{layer}.in", "d_model", "d_mlp")
            found |= self._vector(f"{layer}.in.b", f"{mlp}.b_in", "d_mlp")
        if f"{layer}.out" in parts:
            found[f"{mlp}.W_out"] = self._matrix(f"{layer}.out", "d_mlp", "d_model")
            found |= self._vector(f"{layer}.out.b", f"{mlp}.b_out")
        return found

    def _matrix(self, part: str, rows: str, columns: str) -> Piece:
        """A matrix that takes `rows` to `columns`, stored as [out, in] or [in, out]."""
        names = self.roles.parts[part]
        shape = self.shapes[names[0]]
        if len(shape) != 2:
            raise InputError(f"{names[0]!r} {list(shape)} is no matrix")
        at = {"d_model": self.d_model}
        if shape[0] == shape[1]:
            linear = self.guess.get("mlp [out, in]", True)
        else:
            linear = shape[1] == at[rows] if rows in at else shape[0] == at[columns]
        left = f"{columns} {rows}" if linear else f"{rows} {columns}"
        return Piece(names, f"{left} -> {rows} {columns}")


def _axis(shape: tuple[int, ...], d_model: int) -> int:
    """Which of three axes is d_model: the middle one, the last, or the first."""
    return next(axis for axis in (1, 2, 0) if shape[axis] == d_model)
