"""From tensors under our names to one of our transformers: its tokens, its norms, its biases."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from interp.errors import InputError
from interp.experiment import Attention, Mlp, ModelConfig, Norm
from interp.interchange.layouts.fitting import agreed
from interp.interchange.layouts.prompts import Tokens, readings_of_tokens
from interp.models import Weights, weight_shapes

SINUSOIDS = ("interleaved", "halves")


def fit_transformer(
    weights: Weights,
    sizes: Mapping[str, int],
    given: Mapping[str, Any],
    p: int | None,
    *,
    tokens: Tokens | None,
    notes: list[str],
) -> tuple[Weights, ModelConfig, int]:
    """The transformer that weights under our names, of the whole vocabulary, are of.

    Beside fields of ModelConfig, `given` may have what a file does not tell: `norm_kind`, `norm_order`, `epsilon`,
    `without_parameters` (norms that have no weights), `positions`, `rotary_base`, `interleaved`, `scaled_embedding` and
    `score_scale`.
    """
    weights = dict(weights)
    weights = {name: weight for name, weight in weights.items() if not _is_empty_gate_bias(name, weight)}
    _without_mlp(weights, sizes["n_layers"], notes)
    W_E, W_U, W_pos = weights["embed.W_E"], weights.get("unembed.W_U"), weights.get("pos_embed.W_pos")
    if tokens is None:
        classes = len(W_E) if W_U is None else W_U.shape[1]
        positions = None if W_pos is None or len(W_pos) > 16 else len(W_pos)
        prompt, vocabularies = given.get("prompt"), given.get("vocabularies")
        tokens = readings_of_tokens(len(W_E), classes, positions, p=p, prompt=prompt, vocabularies=vocabularies)[0]
    tied = _cut_vocabulary(weights, tokens, given, notes)
    _positions(weights, tokens.prompt, given, notes)
    n_layers = sizes["n_layers"]
    n_heads, d_model, d_head = weights["blocks.0.attn.W_Q"].shape
    _without_output(weights, n_layers, notes)
    _scores(weights, n_layers, given, notes)
    model = ModelConfig(
        n_layers=agreed("n_layers", n_layers, given),
        d_model=agreed("d_model", d_model, given),
        n_heads=agreed("n_heads", n_heads, given),
        d_head=agreed("d_head", d_head, given) if d_head * n_heads != d_model else None,
        d_mlp=agreed("d_mlp", weights["blocks.0.mlp.W_in"].shape[1], given),
        activation=given.get("activation") or "relu",
        prompt=tokens.prompt,
        causal=given["causal"] if given.get("causal") is not None else True,
        attention_rate=float(given["attention_rate"]) if given.get("attention_rate") is not None else 1.0,
        vocabularies=tokens.vocabularies,
        answer_at=given["answer_at"] if given.get("answer_at") is not None else -1,
        tied=tied,
        norm=_norm(weights, n_layers, given, notes),
        attention=Attention(rotary_base=given.get("rotary_base")),
        mlp=Mlp(gated="blocks.0.mlp.W_gate" in weights),
    )
    return *_biases(weights, model, tokens.p, bool(given.get("biases")), notes), tokens.p


def _is_empty_gate_bias(name: str, weight: Tensor) -> bool:
    """Raises InputError for a gate's bias, which our models lack, unless it is zero."""
    if not name.endswith(".b_gate"):
        return False
    if weight.any():
        raise InputError(f"{name} is not zero, and our gates have no bias: the network cannot be represented")
    return True


# ---- tokens and positions --------------------------------------------------------------------------------------------


def _cut_vocabulary(weights: Weights, tokens: Tokens, given: Mapping[str, Any], notes: list[str]) -> bool:
    """Leave the rows of W_E and the columns of W_U that the prompt and the residues have, in our order. Returns whether
    the unembedding is tied."""
    W_E, W_U = weights["embed.W_E"], weights.get("unembed.W_U")
    rows, p = tokens.rows, tokens.p
    classes = range(tokens.first_class, tokens.first_class + p)
    if max(rows) >= len(W_E):
        raise InputError(f"W_E has {len(W_E)} tokens, and {tokens.said} with p = {p} needs {max(rows) + 1}")
    weights["embed.W_E"] = W_E if rows == list(range(len(W_E))) else W_E[rows]
    if len(W_E) == len(rows) + 1 and rows == list(range(len(rows))):
        notes.append("the last row of W_E, a token that the prompt does not have, was cut")
    elif len(W_E) > len(rows):
        notes.append(f"{len(W_E) - len(rows)} rows of W_E, tokens that the prompt does not have, were cut")
    if rows != list(range(len(rows))) or len(tokens.constants) > 1:
        notes.append(f"the prompt is {tokens.said}")
    tied = W_U is None or (W_U.shape == W_E.T.shape and torch.equal(W_U, W_E.T) and given.get("tied") is not False)
    if tied and W_U is None:
        notes.append("there is no unembedding: it is tied to the embedding, W_U = W_E turned")
    elif tied:
        notes.append("W_U repeats W_E: the unembedding is tied")
    W_U = W_E.T if W_U is None else W_U
    cut = W_U.shape[1] - p
    if cut < 0:
        raise InputError(f"W_U has {W_U.shape[1]} outputs, expected {p} or more")
    if cut and not tied:
        notes.append(_cut_classes(cut, tokens, W_U.shape[1]))
    if "unembed.b_U" in weights:
        weights["unembed.b_U"] = weights["unembed.b_U"][classes.start : classes.stop].clone()
    scaled = bool(given.get("scaled_embedding"))
    if scaled:
        weights["embed.W_E"] = weights["embed.W_E"] * math.sqrt(W_E.shape[1])
        notes.append("W_E was multiplied by √d_model, as the network does where it looks a token up")
    weights.pop("unembed.W_U", None)
    if tied and not scaled and tokens.first_class == tokens.first:
        return True
    weights["unembed.W_U"] = W_U[:, classes.start : classes.stop].contiguous().clone()
    return False


def _cut_classes(cut: int, tokens: Tokens, classes: int) -> str:
    if tokens.first_class:
        return f"{cut} outputs that are no residue were cut, {tokens.first_class} of them before residue 0"
    if cut == 1:
        return "the last output, the class '=', was cut"
    if tokens.vocabularies == "two":
        return f"the last {cut} outputs, for the tokens of b and '=', were cut"
    return f"the last {cut} outputs, which are no residues, were cut"


def sinusoids(n_ctx: int, d_model: int, way: str = "interleaved") -> Tensor:
    """The fixed table of Vaswani et al. 2017: sine and cosine of t·10000^(−2i/d), next to each other or in halves.

    >>> sinusoids(2, 4)[1].double().round(decimals=2).tolist()
    [0.84, 0.54, 0.01, 1.0]
    """
    rates = 10_000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angles = torch.arange(n_ctx, dtype=torch.float64)[:, None] * rates
    pairs = torch.stack([angles.sin(), angles.cos()], -1 if way == "interleaved" else 1)
    return pairs.flatten(1)[:, :d_model].float()


def _positions(weights: Weights, prompt: str, given: Mapping[str, Any], notes: list[str]) -> None:
    """One row of W_pos for every token of the prompt."""
    W_E, n_ctx = weights["embed.W_E"], len(prompt)
    W_pos = weights.get("pos_embed.W_pos")
    if W_pos is None:
        way = given.get("positions")
        if way in SINUSOIDS:
            weights["pos_embed.W_pos"] = sinusoids(n_ctx, W_E.shape[1], way)
            notes.append(f"no position embedding: W_pos is the fixed table of sines and cosines ({way})")
        else:
            weights["pos_embed.W_pos"] = W_E.new_zeros(n_ctx, W_E.shape[1])
            rotary = given.get("rotary_base") is not None
            notes.append(f"no position embedding: {'positions are rotary, and ' if rotary else ''}W_pos is zero")
        return
    if len(W_pos) < n_ctx:
        raise InputError(f"W_pos has {len(W_pos)} positions, and the prompt {prompt!r} {n_ctx}")
    if len(W_pos) > n_ctx:
        notes.append(f"of {len(W_pos)} positions the first {n_ctx} were taken, those of the prompt")
        weights["pos_embed.W_pos"] = W_pos[:n_ctx].clone()


def _scores(weights: Weights, n_layers: int, given: Mapping[str, Any], notes: list[str]) -> None:
    """Queries scaled so that ours, divided by √d_head, are theirs; rotary planes that are neighbors put in halves."""
    names = [f"blocks.{layer}.attn.{kind}_Q" for layer in range(n_layers) for kind in "Wb"]
    _, d_model, d_head = weights[names[0]].shape
    factor = {"none": math.sqrt(d_head), "√d_model": math.sqrt(d_head / d_model)}.get(given.get("score_scale") or "")
    if factor is not None:
        for name in names:
            if name in weights:
                weights[name] = weights[name] * factor
        how = "not divided" if given["score_scale"] == "none" else "divided by √d_model"
        notes.append(f"scores of attention are {how}, in place of divided by √d_head: W_Q was scaled")
    if given.get("interleaved") and given.get("rotary_base") is not None:
        order = [*range(0, d_head, 2), *range(1, d_head, 2)]
        for name in (*names, *(name.replace("_Q", "_K") for name in names)):
            if name in weights:
                weights[name] = weights[name][..., order].contiguous()
        notes.append("rotary planes of neighboring entries were put in halves, by the columns of W_Q and W_K")


# ---- what stands for a part that is not there ------------------------------------------------------------------------


def _without_mlp(weights: Weights, n_layers: int, notes: list[str]) -> None:
    d_model = weights["embed.W_E"].shape[1]
    layers = [layer for layer in range(n_layers) if f"blocks.{layer}.mlp.W_in" not in weights]
    if layers and len(layers) < n_layers:
        raise InputError(f"layer {layers[0]} has no MLP, and others have one")
    for layer in layers:
        weights[f"blocks.{layer}.mlp.W_in"] = torch.zeros(d_model, 1)
        weights[f"blocks.{layer}.mlp.W_out"] = torch.zeros(1, d_model)
    if layers:
        notes.append("there is no MLP: one neuron that is always zero stands for it")


def _without_output(weights: Weights, n_layers: int, notes: list[str]) -> None:
    n_heads, d_model, d_head = weights["blocks.0.attn.W_Q"].shape
    layers = [layer for layer in range(n_layers) if f"blocks.{layer}.attn.W_O" not in weights]
    if layers and n_heads * d_head != d_model:
        raise InputError("there is no output matrix W_O, and the heads together are not as wide as the stream")
    for layer in layers:
        weights[f"blocks.{layer}.attn.W_O"] = torch.eye(d_model).reshape(n_heads, d_head, d_model).contiguous()
    if layers:
        notes.append("there is no W_O: what the heads read is added as it is, so W_O is the identity")


# ---- norms -----------------------------------------------------------------------------------------------------------


def _norm(weights: Weights, n_layers: int, given: Mapping[str, Any], notes: list[str]) -> Norm:
    """The norms that the weights have, or, without parameters, the ones that are given."""
    places = {"attention": "blocks.{}.ln1", "mlp": "blocks.{}.ln2", "final": "ln_final"}
    found = []
    for place, name in places.items():
        layers = [name.format(layer) for layer in range(n_layers)] if "{}" in name else [name]
        has = [one for one in layers if f"{one}.w" in weights or f"{one}.b" in weights]
        if has and len(has) < len(layers):
            raise InputError(f"{has[0]} is there, and not every layer has it; in our models every layer is alike")
        if has:
            found.append(place)
    epsilon = given.get("epsilon") or Norm.epsilon
    order = given.get("norm_order") or "pre"
    if not found:
        kind, at, order = given.get("without_parameters") or ("none", (), order)
        if kind == "none":
            return Norm()
        notes.append(f"a {kind} norm without parameters ({', '.join(at)}) is in no file: it was found by running")
        return Norm(kind=kind, order=order, at=at, learned=False, epsilon=epsilon)
    shifted = [name for name in weights if ".ln" in f".{name}" and name.endswith(".b")]
    kind = given.get("norm_kind") or "layer"
    if kind == "rms" and any(weights[name].any() for name in shifted):
        raise InputError(f"{shifted[0]} is not zero, and an RMS norm has no shift")
    for place in found:
        for layer in range(n_layers if "{}" in places[place] else 1):
            name = places[place].format(layer)
            weights.setdefault(f"{name}.w", torch.ones(weights["embed.W_E"].shape[1]))
            if kind == "layer":
                weights.setdefault(f"{name}.b", torch.zeros(weights["embed.W_E"].shape[1]))
            else:
                weights.pop(f"{name}.b", None)
    return Norm(kind=kind, order=order, at=tuple(found), epsilon=epsilon)


# ---- biases ----------------------------------------------------------------------------------------------------------


def _biases(weights: Weights, model: ModelConfig, p: int, asked: bool, notes: list[str]) -> tuple[Weights, ModelConfig]:
    """The biases of attention and unembedding folded away where that is exact, and otherwise kept, in a model that has
    them everywhere."""
    layers = range(model.n_layers)
    for layer in layers:
        mlp = f"blocks.{layer}.mlp"
        weights.setdefault(f"{mlp}.b_in", torch.zeros(weights[f"{mlp}.W_in"].shape[1]))
        weights.setdefault(f"{mlp}.b_out", torch.zeros(model.d_model))
    names = [f"blocks.{layer}.attn.b_{letter}" for layer in layers for letter in "QKVO"] + ["unembed.b_U"]
    some = [name for name in names if name in weights and weights[name].any()]
    rotary = model.attention.rotary_base is not None
    folds = model.norm.kind == "none" and not rotary and model.attention_rate == 1 and not model.mlp.gated
    kept = [name for name in some if not folds or name.endswith(("b_Q", "b_U"))]
    kept = [name for name in kept if rotary or not name.endswith("b_K")]
    if not kept and not asked:
        for layer in layers:
            _fold(weights, layer, notes)
        return {name: weight for name, weight in weights.items() if name not in names}, model
    model = replace(model, biases=True)
    for name, shape in weight_shapes(model, p).items():
        if name in names:
            weights.setdefault(name, torch.zeros(shape))
    return weights, model


def _fold(weights: Weights, layer: int, notes: list[str]) -> None:
    """b_K drops out of the softmax; b_V and b_O add the same vector everywhere, which b_in and b_out can add."""
    attn, mlp = f"blocks.{layer}.attn", f"blocks.{layer}.mlp"
    if weights.pop(f"{attn}.b_K", torch.zeros(1)).any():
        notes.append(
            f"{attn}.b_K was dropped: it adds the same to every score of a query, which the softmax does not see"
        )
    b_V, b_O = weights.pop(f"{attn}.b_V", torch.zeros(1)), weights.pop(f"{attn}.b_O", torch.zeros(1))
    if not b_V.any() and not b_O.any():
        return
    added = b_O.double()
    if b_V.any():
        added = added + torch.einsum("he,hed->d", b_V.double(), weights[f"{attn}.W_O"].double())
    weights[f"{mlp}.b_in"] = (weights[f"{mlp}.b_in"].double() + added @ weights[f"{mlp}.W_in"].double()).float()
    weights[f"{mlp}.b_out"] = (weights[f"{mlp}.b_out"].double() + added).float()
    notes.append(f"{attn}.b_V and b_O, which add the same vector everywhere, were folded into {mlp}.b_in and b_out")
