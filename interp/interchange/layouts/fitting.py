"""From tensors under our names to one of our models: its sizes, the tokens and classes that are residues, and the
biases and norms that it has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from interp.errors import InputError, flag
from interp.experiment import ModelConfig
from interp.interchange.layouts.prompts import Tokens
from interp.models import Weights, check_weights, weight_shapes


class Fitted(NamedTuple):
    """Weights of one of our models, and what was done to make them so."""

    weights: Weights
    model: ModelConfig
    p: int
    notes: tuple[str, ...]


def fit(
    weights: Weights,
    sizes: Mapping[str, int],
    given: Mapping[str, Any],
    p: int | None = None,
    tokens: Tokens | None = None,
) -> Fitted:
    """The model that weights under our names are of. `given` are fields of ModelConfig, and p, that are known
    otherwise; `tokens` says how the vocabulary is read, by default the commonest way that its size allows.

    Biases that a plain model lacks are honored: b_K drops out of the softmax; b_V and b_O add one vector to the
    stream, which b_in and b_out take over (exactly, as the rows of an attention sum to 1). Where that cannot be, the
    model has `biases`. Raises InputError for what none of our models has, for sizes that contradict what is given, and,
    by its flag, for what must be given.
    """
    from interp.interchange.layouts.transformer_fitting import fit_transformer

    notes: list[str] = []
    fitted = (
        _fit_mlp(weights, given, p, notes)
        if "mlp.W_in" in weights
        else fit_transformer(weights, sizes, given, p, tokens=tokens, notes=notes)
    )
    weights, model, p = fitted
    check_weights(weights, model, p, where="after conversion")
    return Fitted({name: weights[name] for name in weight_shapes(model, p)}, model, p, tuple(notes))


def agreed(field: str, found: Any, given: Mapping[str, Any]) -> Any:
    """What the tensors say of a field, unless something else is given."""
    if given.get(field) not in (None, found):
        raise InputError(
            f"model.{flag(field)} {given[field]}, as given or configured, contradicts the tensors, which have {found}"
        )
    return found


def _modulus(found: int, p: int | None, why: str) -> int:
    if p not in (None, found):
        raise InputError(f"--task.p {p} contradicts the tensors, which have {found} ({why})")
    return found


# ---- an MLP ----------------------------------------------------------------------------------------------------------


def _fit_mlp(
    weights: Weights, given: Mapping[str, Any], p: int | None, notes: list[str]
) -> tuple[Weights, ModelConfig, int]:
    weights = dict(weights)
    _fold_hidden_bias(weights, notes)
    if "embed.W_E" in weights and "unembed.W_U" not in weights:
        _fold_embedding(weights, notes)
        _fold_hidden_bias(weights, notes)
    n_layers = 1 + sum(name.removeprefix("mlp.W_").isdecimal() for name in weights)
    biases = ("mlp.b_in", *(f"mlp.b_{layer}" for layer in range(1, n_layers)), "mlp.b_out", "unembed.b_U")
    some = bool(given.get("biases")) or any(weights.get(name, torch.zeros(1)).any() for name in biases)
    W_in, W_out = weights["mlp.W_in"], weights["mlp.W_out"]
    features, inputs = W_out.shape[1], W_in.shape[0]
    if inputs not in (features, 2 * features):
        raise InputError(
            f"W_in reads {inputs} numbers, expected {features} (a sum) or {2 * features} (a and b side by side)"
        )
    weights = {name: weight for name, weight in weights.items() if some or name not in biases}
    embedding = "none" if "embed.W_E" not in weights else "untied" if "unembed.W_U" in weights else "tied"
    if embedding == "none":
        p = _modulus(features, p, "the outputs of W_out")
        if "unembed.W_U" in weights:
            raise InputError("there is an unembedding and no embedding")
    else:
        p = _modulus(weights["embed.W_E"].shape[0], p, "the rows of W_E")
    model = ModelConfig(
        family="mlp",
        n_layers=agreed("n_layers", n_layers, given),
        d_mlp=agreed("d_mlp", W_in.shape[1], given),
        d_model=agreed("d_model", features, given) if embedding != "none" else ModelConfig.d_model,
        activation=given.get("activation") or "relu",
        inputs=agreed("inputs", "sum" if inputs == features else "concatenated", given),
        embedding=agreed("embedding", embedding, given),
        biases=some,
    )
    for name, shape in weight_shapes(model, p).items():
        if name in biases:  # with biases a network has all of them; those that it lacks are zero
            weights.setdefault(name, W_in.new_zeros(shape))
    return weights, model, p


def _fold_embedding(weights: Weights, notes: list[str]) -> None:
    """Where the neurons answer in classes, and not in the space of the embedding, a row of W_E times W_in is what a
    residue adds to the neurons: a table for one-hot residues."""
    W_E, W_in, W_out = weights["embed.W_E"], weights["mlp.W_in"], weights["mlp.W_out"]
    d_model, p = W_E.shape[1], W_out.shape[1]
    if p == d_model or len(W_E) < p or len(W_in) % d_model:
        return
    del weights["embed.W_E"]
    tables = [W_E[:p].double() @ part.double() for part in W_in.split(d_model)]
    weights["mlp.W_in"] = torch.cat(tables).to(W_in.dtype)
    notes.append(f"W_E was folded into W_in, as the neurons answer in {p} classes and not in its {d_model} dimensions")


def _fold_hidden_bias(weights: Weights, notes: list[str]) -> None:
    """Of one-hot inputs one of a and one of b is 1: half of b_in in every row of W_in adds b_in, whatever they are. A
    network with several hidden layers has biases as it is."""
    if {"embed.W_E", "mlp.W_1"} & weights.keys() or not weights.get("mlp.b_in", torch.zeros(1)).any():
        return
    b_in, W_in = weights.pop("mlp.b_in").double(), weights["mlp.W_in"]
    weights["mlp.W_in"] = (W_in.double() + b_in / 2).to(W_in.dtype)
    notes.append("mlp.b_in was folded into W_in, half of it in every row: two rows are read for every pair")
