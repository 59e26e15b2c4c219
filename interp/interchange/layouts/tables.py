"""The layouts that are known: for every tensor their name, our name, and the einops pattern that turns theirs into
ours.

A name is literal but for `{L}`, the number of a layer, and `(x|y)`, spellings of which the first is written on export.
The axes of a pattern are sizes of the model, and one name is one size throughout; a bracketed axis such as
`(n_heads d_head)` is their product. Biases that our models do not have go by TransformerLens' names and are folded in,
dropped or refused (`interp.interchange.layouts.fitting`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from interp.errors import InputError, unknown_name
from interp.experiment import Family


class Rule(NamedTuple):
    """One tensor: our name, and the pattern `theirs -> ours`. What is optional is zero where it is absent."""

    ours: str
    pattern: str
    optional: bool = False

    @property
    def backwards(self) -> str:
        """The pattern `ours -> theirs`."""
        theirs, ours = self.pattern.split("->")
        return f"{ours.strip()} -> {theirs.strip()}"


@dataclass(frozen=True)
class Layout:
    """A way to name and orient the weights of a family of models.

    `blocks` is what the names of a layer's tensors begin with, its spellings separated by `|`; where `numbered` is
    false a single layer may have no number. `asks` names what neither names nor shapes of this layout tell.
    """

    name: str
    title: str
    family: Family
    rules: Mapping[str, Rule]
    blocks: str = "blocks"
    numbered: bool = True
    asks: tuple[str, ...] = ()

    @cached_property
    def _expressions(self) -> list[tuple[re.Pattern[str], Rule]]:
        block = rf"(?:(?:{self.blocks})\.(?P<L>\d{{1,3}})\.)" + ("" if self.numbered else "?")
        return [
            (
                re.compile(
                    re.escape(name)
                    .replace(r"\{L\}\.", block)
                    .replace(r"\(", "(?:")
                    .replace(r"\)", ")")
                    .replace(r"\|", "|")
                ),
                rule,
            )
            for name, rule in self.rules.items()
        ]

    def find(self, name: str) -> tuple[Rule, int | None] | None:
        """The rule for one of their names, and the number of the layer it speaks of."""
        for expression, rule in self._expressions:
            if match := expression.fullmatch(name):
                return rule, int(match.groupdict().get("L") or 0) if "{L}" in rule.ours else None
        return None

    def spelled(self, name: str, layer: int | None) -> str:
        """A name of the table as it is written on export."""
        first = re.sub(r"\(([^|)]*)[^)]*\)", r"\1", name)
        return first if layer is None else first.replace("{L}.", f"{self.blocks.split('|')[0]}.{layer}.")


# ---- TransformerLens -------------------------------------------------------------------------------------------------

_CLASSIC = {
    "embed.W_E": "d_vocab d_model",
    "pos_embed.W_pos": "n_ctx d_model",
    "{L}.attn.W_Q": "n_heads d_model d_head",
    "{L}.attn.W_K": "n_heads d_model d_head",
    "{L}.attn.W_V": "n_heads d_model d_head",
    "{L}.attn.W_O": "n_heads d_head d_model",
    "{L}.mlp.W_in": "d_model d_mlp",
    "{L}.mlp.W_out": "d_mlp d_model",
    "unembed.W_U": "d_model d_out",
    "{L}.attn.b_Q": "n_heads d_head",
    "{L}.attn.b_K": "n_heads d_head",
    "{L}.attn.b_V": "n_heads d_head",
    "{L}.attn.b_O": "d_model",
    "{L}.mlp.b_in": "d_mlp",
    "{L}.mlp.b_out": "d_model",
    "unembed.b_U": "d_out",
}


def _like_classic(*changes: Mapping[str, tuple[str, str]]) -> dict[str, Rule]:
    """Rules of every classic tensor, except where `changes` has `our name: (their name, their axes)`."""
    theirs = {ours: (ours, axes) for ours, axes in _CLASSIC.items()}
    for change in changes:
        theirs |= change
    rules = {}
    for ours, (name, axes) in theirs.items():
        optional = ours.rpartition(".")[2].startswith("b_")
        rules[name] = Rule(ours, f"{axes} -> {_CLASSIC[ours]}", optional)
    return rules


_LINEAR_HEADS = "(n_heads d_head) d_model"
_NATIVE = {
    "embed.W_E": ("embed.weight", "d_vocab d_model"),
    "pos_embed.W_pos": ("pos_embed.weight", "n_ctx d_model"),
    **{f"{{L}}.attn.W_{x.upper()}": (f"{{L}}.attn.{x}.weight", _LINEAR_HEADS) for x in "qkv"},
    **{f"{{L}}.attn.b_{x.upper()}": (f"{{L}}.attn.{x}.bias", "(n_heads d_head)") for x in "qkv"},
    "{L}.attn.W_O": ("{L}.attn.o.weight", "d_model (n_heads d_head)"),
    "{L}.attn.b_O": ("{L}.attn.o.bias", "d_model"),
    "{L}.mlp.W_in": ("{L}.mlp.in.weight", "d_mlp d_model"),
    "{L}.mlp.b_in": ("{L}.mlp.in.bias", "d_mlp"),
    "{L}.mlp.W_out": ("{L}.mlp.out.weight", "d_model d_mlp"),
    "{L}.mlp.b_out": ("{L}.mlp.out.bias", "d_model"),
    "unembed.W_U": ("unembed.weight", "d_out d_model"),
    "unembed.b_U": ("unembed.bias", "d_out"),
}

# ---- Nanda et al. 2023, arXiv:2301.05217, and Zhong et al. 2023, arXiv:2306.17844: the authors' own code -------------

_NANDA = {
    "embed.W_E": ("embed.W_E", "d_model d_vocab"),
    **{f"{{L}}.attn.W_{x}": (f"{{L}}.attn.W_{x}", "n_heads d_head d_model") for x in "QKV"},
    "{L}.attn.W_O": ("{L}.attn.W_O", "d_model (n_heads d_head)"),
    "{L}.mlp.W_in": ("{L}.mlp.W_in", "d_mlp d_model"),
    "{L}.mlp.W_out": ("{L}.mlp.W_out", "d_model d_mlp"),
}

# ---- hand-written PyTorch --------------------------------------------------------------------------------------------

_ATTENTION = "{L}.(attn|attention|self_attn)."
_MLP = "{L}.(mlp|ff|ffn|feed_forward)."
_SPELLINGS = {
    "W_Q": "(W_Q|W_q|w_q|wq|q_proj|query|q)",
    "W_K": "(W_K|W_k|w_k|wk|k_proj|key|k)",
    "W_V": "(W_V|W_v|w_v|wv|v_proj|value|v)",
    "W_O": "(W_O|W_o|w_o|wo|o_proj|out_proj|proj|o)",
    "W_in": "(W_in|w_in|fc1|fc_in|linear1|up|in|0)",
    "W_out": "(W_out|w_out|fc2|fc_out|linear2|down|out|2)",
}
_POSITIONS = (
    "pos_embed",
    "position_embed",
    "pos_embedding",
    "position_embedding",
    "positional_embedding",
    "pos_emb",
    "wpe",
)
_HAND_OUTER = {
    "embed.W_E": ("(token_embed|tok_embed|token_embedding|tok_emb|embedding|embed|wte).weight", "d_vocab d_model"),
    # Also as a bare nn.Parameter, whose name has no `.weight`.
    "pos_embed.W_pos": (f"({'.weight|'.join(_POSITIONS)}.weight|{'|'.join(_POSITIONS)})", "n_ctx d_model"),
    "unembed.W_U": ("(unembed|unembedding|lm_head|head|output).weight", "d_out d_model"),
    "unembed.b_U": ("(unembed|unembedding|lm_head|head|output).bias", "d_out"),
}
_HAND_MLP = {
    "{L}.mlp.W_in": (f"{_MLP}{_SPELLINGS['W_in']}.weight", "d_mlp d_model"),
    "{L}.mlp.b_in": (f"{_MLP}{_SPELLINGS['W_in']}.bias", "d_mlp"),
    "{L}.mlp.W_out": (f"{_MLP}{_SPELLINGS['W_out']}.weight", "d_model d_mlp"),
    "{L}.mlp.b_out": (f"{_MLP}{_SPELLINGS['W_out']}.bias", "d_model"),
}
_HAND_LINEAR = {
    **{f"{{L}}.attn.W_{x}": (f"{_ATTENTION}{_SPELLINGS[f'W_{x}']}.weight", _LINEAR_HEADS) for x in "QKV"},
    **{f"{{L}}.attn.b_{x}": (f"{_ATTENTION}{_SPELLINGS[f'W_{x}']}.bias", "(n_heads d_head)") for x in "QKV"},
    "{L}.attn.W_O": (f"{_ATTENTION}{_SPELLINGS['W_O']}.weight", "d_model (n_heads d_head)"),
    "{L}.attn.b_O": (f"{_ATTENTION}{_SPELLINGS['W_O']}.bias", "d_model"),
}


def _hand_bare(heads: str, output: str) -> dict[str, tuple[str, str]]:
    return {
        **{f"{{L}}.attn.W_{x}": (f"{_ATTENTION}{_SPELLINGS[f'W_{x}']}", heads) for x in "QKV"},
        "{L}.attn.W_O": (f"{_ATTENTION}{_SPELLINGS['W_O']}", output),
    }


def _hand_written(name: str, title: str, *changes: Mapping[str, tuple[str, str]], asks: tuple[str, ...] = ()) -> Layout:
    rules = _like_classic(_HAND_OUTER, *changes)
    return Layout(name, title, "transformer", rules, blocks="blocks|layers|h", numbered=False, asks=asks)


# ---- one hidden layer ------------------------------------------------------------------------------------------------

_INPUT_LAST = {
    "(W_in|fc1.weight|linear1.weight|layer1.weight|hidden.weight|0.weight)": Rule(
        "mlp.W_in", "d_mlp inputs -> inputs d_mlp"
    ),
    "(W_out|fc2.weight|linear2.weight|layer2.weight|output.weight|2.weight)": Rule(
        "mlp.W_out", "features d_mlp -> d_mlp features"
    ),
    "(b_in|fc1.bias|linear1.bias|layer1.bias|hidden.bias|0.bias)": Rule("mlp.b_in", "d_mlp -> d_mlp", True),
    "(b_out|fc2.bias|linear2.bias|layer2.bias|output.bias|2.bias)": Rule("mlp.b_out", "features -> features", True),
    "(W_E|embed.weight|embedding.weight)": Rule("embed.W_E", "p features -> p features", True),
    "(W_U|unembed.weight)": Rule("unembed.W_U", "d_out features -> features d_out", True),
}
_INPUT_FIRST = {
    "mlp.W_in": Rule("mlp.W_in", "inputs d_mlp -> inputs d_mlp"),
    "mlp.W_out": Rule("mlp.W_out", "d_mlp features -> d_mlp features"),
    "embed.W_E": Rule("embed.W_E", "p features -> p features", True),
    "unembed.W_U": Rule("unembed.W_U", "features d_out -> features d_out", True),
}
_BARE_INPUT_FIRST = {
    "W_in": Rule("mlp.W_in", "inputs d_mlp -> inputs d_mlp"),
    "W_out": Rule("mlp.W_out", "d_mlp features -> d_mlp features"),
    "b_in": Rule("mlp.b_in", "d_mlp -> d_mlp", True),
    "b_out": Rule("mlp.b_out", "features -> features", True),
}

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("transformer-lens", "TransformerLens 1–3, classic names; ours too", "transformer", _like_classic()),
        Layout(
            "transformer-lens-native",
            "TransformerLens 4, native names",
            "transformer",
            _like_classic(_NATIVE),
            asks=("n_heads",),
        ),
        Layout("nanda", "the code of Nanda et al. 2023 and Zhong et al. 2023", "transformer", _like_classic(_NANDA)),
        _hand_written("pytorch-linear", "hand-written PyTorch, nn.Linear", _HAND_MLP, _HAND_LINEAR, asks=("n_heads",)),
        _hand_written(
            "pytorch-per-head",
            "hand-written PyTorch, a matrix [d_model, d_head] per head",
            _HAND_MLP,
            _hand_bare("n_heads d_model d_head", "n_heads d_head d_model"),
        ),
        _hand_written(
            "pytorch-joint",
            "hand-written PyTorch, one matrix [d_model, heads] for all heads",
            _HAND_MLP,
            _hand_bare("d_model (n_heads d_head)", "(n_heads d_head) d_model"),
            asks=("n_heads",),
        ),
        Layout("mlp", "one hidden layer, our names", "mlp", _INPUT_FIRST),
        Layout("mlp-input-first", "one hidden layer, W_in [inputs, d_mlp]", "mlp", _BARE_INPUT_FIRST),
        Layout("mlp-input-last", "one hidden layer, W_in [d_mlp, inputs]", "mlp", _INPUT_LAST),
    )
}


def layout_named(name: str) -> Layout:
    """The layout of that name. Raises InputError, with the nearest name that exists."""
    if name not in LAYOUTS:
        raise unknown_name("layout", name, LAYOUTS)
    return LAYOUTS[name]


def check_pattern(pattern: str) -> None:
    """Raises InputError unless the two sides of a pattern have the same axes, each once; an axis of size 1 is written
    1, as in einops."""
    sides = [sorted(re.findall(r"(?!1\b)\w+", side)) for side in pattern.split("->")]
    if (
        len(sides) != 2
        or sides[0] != sides[1]
        or len(set(sides[0])) != len(sides[0])
        or re.search(r"[^\w\s()>-]", pattern)
    ):
        raise InputError(
            f"pattern {pattern!r} must have the same axes on both sides of ->, each once, as in 'd_mlp d_model "
            "-> d_model d_mlp'"
        )
