"""The ways in which a file can be read: a known layout that fits, or what the roles of its tensors allow; and for each
the questions that it leaves open.

A guess answers every question. `Candidate.fitted` makes the network of a guess; running it says whether the guess is
right (`interp.interchange.importing.search`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from einops import EinopsError
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Activation
from interp.interchange.layouts.assignment import Assignment, Piece, assign, for_every_head
from interp.interchange.layouts.fitting import Fitted, fit
from interp.interchange.layouts.mapping import Mapped
from interp.interchange.layouts.matching import Match, converted, match, split_axes
from interp.interchange.layouts.mlp_roles import is_mlp, mlp_pieces
from interp.interchange.layouts.prompts import Tokens, readings_of_tokens
from interp.interchange.layouts.roles import Roles, find_roles
from interp.models import Weights

Guess = dict[str, Any]
Named = tuple[Weights, Mapping[str, int]]  # weights under our names, and the number of layers

INFERRED = "inferred"
EPSILONS = (1e-5, 1e-6, 1e-8, 1e-12, 1e-3)
# What is asked only where nothing else answers: a network that answers rightly could seem better with one of these.
RARE = ("without_parameters", "scaled_embedding", "score_scale", "answer_at")
# Options so near each other that the answers do not tell them apart: the default is assumed.
TWINS = ({"gelu", "gelu-tanh"},)


@dataclass(frozen=True)
class Candidate:
    """One way to read the tensors, with its open questions: each has its options, the default first."""

    layout: str
    title: str
    options: Mapping[str, tuple[Any, ...]]
    named: Callable[[Mapping[str, Tensor], Guess], Named]
    left_over: tuple[str, ...]
    used: frozenset[str]
    notes: tuple[str, ...] = ()
    match: Match | None = None
    assignment: Assignment | None = None
    pieces: Mapping[str, Piece] | None = None

    def pieces_of(self, guess: Guess) -> Mapping[str, Piece]:
        """Our name → where it is, as guessed."""
        if self.assignment is not None:
            return self.assignment.pieces(guess)
        if self.match is not None:
            return {ours: Piece((entry.theirs,), entry.rule.pattern) for ours, entry in self.match.tensors.items()}
        return self.pieces or {}

    @property
    def default(self) -> Guess:
        return {question: options[0] for question, options in self.options.items()}

    def fitted(
        self,
        tensors: Mapping[str, Tensor],
        guess: Guess,
        given: Mapping[str, Any],
        p: int | None,
        named: Named | None = None,
    ) -> Fitted:
        """The network that a guess makes of the tensors; `named` are these under our names, where they are known.
        Raises InputError where they do not allow it."""
        weights, sizes = named or self.named(tensors, guess)
        fields = {**given, **{name: value for name, value in guess.items() if name in _FIELDS}}
        fields.pop("positions", None)
        if guess.get("positions"):
            fields |= dict(guess["positions"])
        return fit(weights, sizes, fields, p, guess.get("tokens"))


# The questions whose answers turn and cut tensors; the others leave them as they are.
OF_PIECES = ("n_heads", "cut", "attention [out, in]", "W_O [out, in]", "mlp [out, in]", "gate first")
_FIELDS = (
    *("n_heads", "activation", "causal", "norm_kind", "norm_order", "epsilon", "answer_at"),
    *("without_parameters", "scaled_embedding", "score_scale"),
)


def as_questions(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a model, in fields of ModelConfig, as answers to questions; a norm may be known in parts.

    >>> as_questions({"n_heads": 4, "norm": {"kind": "layer", "order": "post", "epsilon": 1e-6}})
    {'n_heads': 4, 'norm_kind': 'layer', 'norm_order': 'post', 'epsilon': 1e-06}
    """
    known = {name: value for name, value in fields.items() if name not in ("norm", "attention", "mlp")}
    norm, attention = (_as_mapping(fields.get(name)) for name in ("norm", "attention"))
    kind = norm.get("kind")
    if kind in ("layer", "rms"):
        order = norm.get("order") or "pre"
        known["norm_kind"] = kind
        if norm.get("learned") is False:
            known["without_parameters"] = (kind, tuple(norm.get("at") or ("attention", "mlp", "final")), order)
    if kind != "none":
        known |= {"norm_order": norm["order"]} if norm.get("order") else {}
        known |= {"epsilon": norm["epsilon"]} if norm.get("epsilon") else {}
    if attention.get("rotary_base"):
        known["rotary_base"] = float(attention["rotary_base"])
    return known


def _as_mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    return vars(value) if value is not None and hasattr(value, "__dict__") else {}


def of_layout(found: Match, tensors: Mapping[str, Tensor], given: Mapping[str, Any], p: int | None) -> Candidate:
    """A known layout, with what neither its names nor its shapes tell. Raises InputError where it fits no network."""
    layout, shapes = found.layout, {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    open_ = any(
        axis not in found.sizes
        for entry in found.tensors.values()
        for group in split_axes(entry.rule.pattern.split("->")[0])
        for axis in group
    )
    known = {name: given[name] for name in ("d_head", "d_model", "d_mlp") if given.get(name) is not None}
    options: dict[str, tuple[Any, ...]] = {}
    if open_:
        fit_heads = [
            heads
            for heads in _heads_in_order(given)
            if isinstance(match(layout, shapes, {**known, "n_heads": heads}), Match)
        ]
        if (asked := given.get("n_heads")) is not None and asked not in fit_heads:
            raise InputError(
                f"model.n-heads {asked}, as given or configured, contradicts the tensors: in the layout "
                f"{layout.name!r} they fit {', '.join(map(str, fit_heads)) or 'no number of'} heads"
            )
        if not fit_heads:
            raise InputError(f"the layout {layout.name!r} fits with no number of heads")
        options["n_heads"] = tuple(fit_heads)

    def named(theirs: Mapping[str, Tensor], guess: Guess) -> Named:
        sizes = {**known, "n_heads": guess["n_heads"]} if open_ else {**known, **_given_heads(given)}
        again = match(layout, {name: tuple(tensor.shape) for name, tensor in theirs.items()}, sizes)
        if not isinstance(again, Match):
            raise InputError(again.reason)
        return converted(again, theirs), again.sizes

    weights, _ = named(tensors, {question: choices[0] for question, choices in options.items()})
    options |= common_questions(weights, found.sizes.get("n_layers", 1), given, p)
    used = frozenset(entry.theirs for entry in found.tensors.values())
    return Candidate(layout.name, layout.title, options, named, found.left_over, used, (), found)


def _given_heads(given: Mapping[str, Any]) -> dict[str, int]:
    return {"n_heads": given["n_heads"]} if given.get("n_heads") is not None else {}


def _heads_in_order(given: Mapping[str, Any]) -> Iterable[int]:
    return dict.fromkeys((*_given_heads(given).values(), 4, 8, 1, 2, 16, 3, 6, 12, 32, 5, 10, 7, 64))


def of_roles(
    tensors: Mapping[str, Tensor], given: Mapping[str, Any], p: int | None, roles: Roles | None = None
) -> Candidate:
    """What names and shapes tell of a file in no known layout. Raises InputError, in words, where it is no network."""
    if is_mlp(tensors):
        return _of_chain(tensors, given, p)
    roles = roles or find_roles(tensors)
    assignment = assign(roles, tensors, given)
    n_layers = roles.n_layers

    def named(theirs: Mapping[str, Tensor], guess: Guess) -> Named:
        return assignment.weights(theirs, guess), {"n_layers": n_layers}

    default = {question: choices[0] for question, choices in assignment.options.items()}
    weights, _ = named(tensors, default)
    options = dict(assignment.options) | common_questions(weights, n_layers, given, p, roles=roles, tensors=tensors)
    left = tuple(name for name in tensors if name not in assignment.used)
    return Candidate(
        INFERRED, "inferred from names and shapes", options, named, left, frozenset(assignment.used), assignment.notes,
        assignment=assignment,
    )  # fmt: skip


def _of_chain(tensors: Mapping[str, Tensor], given: Mapping[str, Any], p: int | None) -> Candidate:
    """An MLP, as the shapes chain."""
    pieces = mlp_pieces(tensors)
    n_layers = 1 + sum(name.removeprefix("mlp.W_").isdecimal() for name in pieces)

    def named(theirs: Mapping[str, Tensor], guess: Guess) -> Named:
        return {ours: piece.taken(theirs, {}) for ours, piece in pieces.items()}, {"n_layers": n_layers}

    weights, _ = named(tensors, {})
    used = frozenset(name for piece in pieces.values() for name in piece.theirs)
    left = tuple(name for name in tensors if name not in used)
    options = common_questions(weights, n_layers, given, p)
    return Candidate(INFERRED, "inferred from names and shapes", options, named, left, used, pieces=pieces)


def of_mapping(mapped: Mapped, tensors: Mapping[str, Tensor], given: Mapping[str, Any], p: int | None) -> Candidate:
    """What a mapping file says that cuts. Raises InputError where it does not fit the tensors."""
    assert mapped.pieces is not None
    pieces = mapped.pieces
    n_layers = 1 + max((int(name.split(".")[1]) for name in pieces if name.startswith("blocks.")), default=0)

    def named(theirs: Mapping[str, Tensor], guess: Guess) -> Named:
        heads, weights = given.get("n_heads"), {}
        for ours, piece in pieces.items():
            if (
                heads is None
                and len(piece.theirs) == 1
                and "(" in piece.pattern
                and "part" not in piece.pattern.split("(")[1]
            ):
                raise InputError("the mapping file does not say how many heads there are: n_heads under [model]")
            sizes = {"n_heads": heads or len(piece.theirs), "n_kv": given.get("n_kv") or heads or len(piece.theirs)}
            try:
                weights[ours] = for_every_head(ours, piece.taken(theirs, sizes), heads or 0)
            except (RuntimeError, ValueError, IndexError, EinopsError) as error:
                shape = list(theirs[piece.theirs[0]].shape)
                raise InputError(
                    f"{piece.theirs[0]!r} {shape} is not {piece.pattern!r}: {error}".splitlines()[0]
                ) from None
        return weights, {"n_layers": n_layers}

    weights, _ = named(tensors, {})
    options = common_questions(weights, n_layers, given, p)
    used = frozenset(name for piece in pieces.values() for name in piece.theirs)
    left = tuple(name for name in tensors if name not in used)
    return Candidate(mapped.layout.name, mapped.layout.title, options, named, left, used, pieces=pieces)


def common_questions(
    weights: Weights,
    n_layers: int,
    given: Mapping[str, Any],
    p: int | None,
    *,
    roles: Roles | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> dict[str, tuple[Any, ...]]:
    """What no layout tells: activation, and of a transformer tokens, norms, positions and what a position sees."""
    gated = any(name.endswith("W_gate") for name in weights)
    activations = ("silu", "gelu", "relu", "gelu-tanh", "square", "tanh") if gated else _ACTIVATIONS
    if roles is not None and tensors is not None and _is_conv1d(roles, tensors):
        # As GPT-2 has it, of two that are nearly one.
        activations = ("relu", "gelu-tanh", "gelu", "silu", "square", "tanh")
    asked: dict[str, tuple[Any, ...]] = {"activation": _first(given.get("activation"), activations)}
    if "mlp.W_in" in weights:
        return asked
    said = given.get("tokens")
    known = {"p": p, "prompt": given.get("prompt"), "vocabularies": given.get("vocabularies")}
    if said is not None:
        known = {"p": said.p, "prompt": said.prompt, "vocabularies": said.vocabularies}
    try:
        asked["tokens"] = _first(said, _tokens(weights, known))
    except InputError:
        if said is None:
            raise
        asked["tokens"] = (said,)
    # In one layer only another position than the last sees less where it is causal; a or b may come after it.
    before = given.get("answer_at") not in (None, -1)
    asked["causal"] = _first(given.get("causal"), (False, True) if before else (True, False))
    normed = [name for name in weights if ".ln" in f".{name}"]
    if normed:
        shifted = any(name.endswith(".b") for name in normed)
        called = roles is not None and any("rms" in name.lower() for names in roles.parts.values() for name in names)
        kinds = ("layer",) if shifted else ("rms", "layer") if called or gated else ("layer", "rms")
        asked["norm_kind"] = _first(given.get("norm_kind"), kinds)
        if any(".ln1" in name or ".ln2" in name for name in normed):
            asked["norm_order"] = _first(given.get("norm_order"), ("pre", "post"))
        asked["epsilon"] = _first(given.get("epsilon"), EPSILONS)
    else:
        every = ("attention", "mlp", "final")
        some = [(every, "pre"), (every, "post"), (("attention", "mlp"), "pre"), (("attention", "mlp"), "post")]
        some.append((("final",), "pre"))
        ways = tuple((kind, at, order) for at, order in some for kind in ("layer", "rms"))
        asked["without_parameters"] = _first(given.get("without_parameters"), (("none", (), "pre"), *ways))
    if "pos_embed.W_pos" not in weights:
        asked["positions"] = _first(given.get("positions"), _ways_of_positions(weights, roles, tensors or {}))
    asked["scaled_embedding"] = _first(given.get("scaled_embedding"), (False, True))
    asked["score_scale"] = _first(given.get("score_scale"), ("√d_head", "none", "√d_model"))
    longest = max((len(tokens.prompt) for tokens in asked["tokens"]), default=2)
    asked["answer_at"] = _first(given.get("answer_at"), (-1, *range(min(longest - 1, 5))))
    return asked


def _tokens(weights: Weights, known: Mapping[str, Any]) -> tuple[Tokens, ...]:
    """What the tokens may be, by the sizes of the tables and what is known."""
    W_E, W_U, W_pos = (weights.get(name) for name in ("embed.W_E", "unembed.W_U", "pos_embed.W_pos"))
    assert W_E is not None
    positions = None if W_pos is None or len(W_pos) > 16 else len(W_pos)
    return tuple(readings_of_tokens(len(W_E), len(W_E) if W_U is None else W_U.shape[1], positions, **known))


def with_every_token(candidate: Candidate, tensors: Mapping[str, Tensor]) -> Candidate:
    """The candidate with every reading of the tokens, whatever somebody says of p and of the prompt."""
    weights, _ = candidate.named(tensors, candidate.default)
    try:
        every = _tokens(weights, {})
    except InputError:  # no prompt that is known fits: what is said is all there is
        return candidate
    more = tuple(option for option in candidate.options["tokens"] if option not in every)
    return replace(candidate, options={**candidate.options, "tokens": (*every, *more)})


def _is_conv1d(roles: Roles, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the matrices are GPT-2's Conv1D: fused and [in, out]."""
    name = roles.parts.get("0.qkv", ("",))[0]
    return "c_attn" in name and tensors[name].shape[0] == roles.d_model


_ACTIVATIONS = ("relu", "gelu", "silu", "square", "gelu-tanh", "tanh")
ACTIVATIONS = frozenset(get_args(Activation))


def _first(given: Any, options: tuple[Any, ...]) -> tuple[Any, ...]:
    """The options, one that is given first."""
    if given is None:
        return options
    return (given, *(option for option in options if option != given))


def _ways_of_positions(weights: Weights, roles: Roles | None, tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """Fixed tables and rotations, for a file without position embedding; each as fields of `fit`."""
    base, table = 10_000.0, None
    for name in roles.buffers if roles else ():
        if name.endswith("inv_freq") and tensors[name].ndim == 1 and len(tensors[name]) > 1:
            table = tensors[name].double()
            base = float(table[1] ** -len(table))
    halves = (("rotary_base", base), ("interleaved", False))
    neighbors = (("rotary_base", base), ("interleaved", True))
    if roles is not None and any("rot" in name or "inv_freq" in name for name in roles.buffers):
        return (halves, neighbors)
    fixed = tuple((("positions", way),) for way in ("interleaved", "halves"))
    return ((), halves, neighbors, *fixed)
