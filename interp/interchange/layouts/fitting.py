"""From recognized tensors to one of our models: its sizes, the biases it does not have, and the tensors that are of no
use to it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from interp.errors import InputError, flag
from interp.experiment import ModelConfig, Vocabularies
from interp.models import Weights, check_weights, weight_shapes


class Fitted(NamedTuple):
    """Weights of one of our models, and what was done to make them so."""

    weights: Weights
    model: ModelConfig
    p: int
    notes: tuple[str, ...]


def fit(weights: Weights, sizes: Mapping[str, int], given: Mapping[str, Any], p: int | None = None) -> Fitted:
    """The model that weights under our names are of. `given` are fields of ModelConfig, and p, that are known
    otherwise.

    Biases that our models lack are honored: b_K drops out of the softmax; b_V and b_O add one vector to the residual
    stream, which b_in and b_out take over (exactly, as the rows of an attention sum to 1). Raises InputError for others
    that are not zero, for sizes that contradict what is given, and, by its flag, for what must be given.
    """
    notes: list[str] = []
    fitted = (
        _fit_mlp(weights, given, p, notes)
        if "mlp.W_in" in weights
        else _fit_transformer(weights, sizes, given, p, notes)
    )
    weights, model, p = fitted
    check_weights(weights, model, p, where="after conversion")
    return Fitted({name: weights[name] for name in weight_shapes(model, p)}, model, p, tuple(notes))


def _agreed(field: str, found: Any, given: Mapping[str, Any]) -> Any:
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


# ---- transformers ----------------------------------------------------------------------------------------------------


def _fit_transformer(
    weights: Weights, sizes: Mapping[str, int], given: Mapping[str, Any], p: int | None, notes: list[str]
) -> tuple[Weights, ModelConfig, int]:
    weights = dict(weights)
    prompt = _prompt(weights, given)
    p, vocabularies = _vocabulary(weights, prompt, given.get("vocabularies"), p, notes)
    n_layers = sizes["n_layers"]
    if n_layers > 1 and given.get("causal") is None:
        raise InputError(
            f"the network has {n_layers} layers: say whether a position sees later ones, with --model.causal "
            "True or False"
        )
    n_heads, d_model, d_head = weights["blocks.0.attn.W_Q"].shape
    model = ModelConfig(
        n_layers=_agreed("n_layers", n_layers, given),
        d_model=_agreed("d_model", d_model, given),
        n_heads=_agreed("n_heads", n_heads, given),
        d_head=_agreed("d_head", d_head, given) if d_head * n_heads != d_model else None,
        d_mlp=_agreed("d_mlp", weights["blocks.0.mlp.W_in"].shape[1], given),
        activation=given.get("activation") or "relu",
        prompt=prompt,
        causal=given["causal"] if given.get("causal") is not None else True,
        attention_rate=float(given["attention_rate"]) if given.get("attention_rate") is not None else 1.0,
        vocabularies=vocabularies,
    )
    for layer in range(n_layers):
        _fold_biases(weights, layer, model, notes)
    _drop_zero(weights, "unembed.b_U", "our models have no b_U")
    return weights, model, p


def _prompt(weights: Weights, given: Mapping[str, Any]) -> str:
    n_ctx = weights["pos_embed.W_pos"].shape[0]
    prompts: dict[int, str] = {2: "ab", 3: "ab="}
    prompt = given.get("prompt") or prompts.get(n_ctx)
    if prompt is None or len(prompt) != n_ctx:
        raise InputError(f"W_pos has {n_ctx} positions; the prompts that are known are 'ab' (2) and 'ab=' (3)")
    return prompt


def _vocabulary(
    weights: Weights, prompt: str, vocabularies: Vocabularies | None, p: int | None, notes: list[str]
) -> tuple[int, Vocabularies]:
    """p, and whether b has a vocabulary of its own, with the rows of W_E and the columns of W_U that belong to no
    residue cut off."""
    W_E, W_U = weights["embed.W_E"], weights["unembed.W_U"]
    d_vocab, d_out = W_E.shape[0], W_U.shape[1]
    equals = 1 if prompt == "ab=" else 0
    # Without `=` in the prompt, a token that W_E has beyond the classes is never read.
    as_one, as_two = d_out if not equals and d_vocab == d_out + 1 else d_vocab - equals, (d_vocab - equals) // 2
    if vocabularies is None:
        two = (
            d_out in (as_two, as_two + 1) and d_out not in (as_one, as_one + 1)
            if p is None
            else d_vocab in (2 * p, 2 * p + 1)
        )
        vocabularies = "two" if two and (p is None or d_vocab > p + 1) else "one"
    if p is None:
        p = as_two if vocabularies == "two" else as_one
    residues, with_two = (2 * p, ", with two vocabularies") if vocabularies == "two" else (p, "")
    if d_vocab not in (residues + equals, residues + 1):
        expected = f"expected {residues + equals} for p = {p} and the prompt {prompt!r}{with_two}"
        raise InputError(f"W_E has {d_vocab} tokens, {expected}; is --task.p right?")
    if d_out not in (p, p + 1, d_vocab):
        raise InputError(
            f"W_U has {d_out} outputs, expected {p} (or {p + 1}, with a class for '=') for p = {p}; is --task.p right?"
        )
    if d_vocab > residues + equals:
        weights["embed.W_E"] = W_E[: residues + equals].clone()
        notes.append("the last row of W_E, a token that the prompt does not have, was cut")
    if d_out > p:
        weights["unembed.W_U"] = W_U[:, :p].contiguous().clone()
        if "unembed.b_U" in weights:
            weights["unembed.b_U"] = weights["unembed.b_U"][:p].clone()
        cut = (
            "the last output, the class '='"
            if d_out == p + 1
            else f"the last {d_out - p} outputs, for the tokens of b and '='"
        )
        notes.append(f"{cut}, {'was' if d_out == p + 1 else 'were'} cut")
    return p, vocabularies


def _fold_biases(weights: Weights, layer: int, model: ModelConfig, notes: list[str]) -> None:
    attn, mlp = f"blocks.{layer}.attn", f"blocks.{layer}.mlp"
    W_in, W_out = weights[f"{mlp}.W_in"], weights[f"{mlp}.W_out"]
    weights.setdefault(f"{mlp}.b_in", W_in.new_zeros(W_in.shape[1]))
    weights.setdefault(f"{mlp}.b_out", W_out.new_zeros(W_out.shape[1]))
    _drop_zero(weights, f"{attn}.b_Q", "our models have no b_Q")
    if weights.pop(f"{attn}.b_K", torch.zeros(1)).any():
        notes.append(
            f"{attn}.b_K was dropped: it adds the same to every score of a query, which the softmax does not see"
        )
    b_V, b_O = weights.pop(f"{attn}.b_V", torch.zeros(1)), weights.pop(f"{attn}.b_O", torch.zeros(1))
    if not b_V.any() and not b_O.any():
        return
    if b_V.any() and model.attention_rate != 1:
        raise InputError(f"{attn}.b_V is not zero, and with an attention rate other than 1 it cannot be folded away")
    added = b_O.double()
    if b_V.any():
        added = added + torch.einsum("he,hed->d", b_V.double(), weights[f"{attn}.W_O"].double())
    weights[f"{mlp}.b_in"] = (weights[f"{mlp}.b_in"].double() + added @ W_in.double()).float()
    weights[f"{mlp}.b_out"] = (weights[f"{mlp}.b_out"].double() + added).float()
    notes.append(f"{attn}.b_V and b_O, which add the same vector everywhere, were folded into {mlp}.b_in and b_out")


def _drop_zero(weights: Weights, name: str, why: str) -> None:
    if weights.pop(name, torch.zeros(1)).any():
        raise InputError(f"{name} is not zero, and {why}: the network cannot be represented")


# ---- one hidden layer ------------------------------------------------------------------------------------------------


def _fit_mlp(
    weights: Weights, given: Mapping[str, Any], p: int | None, notes: list[str]
) -> tuple[Weights, ModelConfig, int]:
    weights = dict(weights)
    _fold_hidden_bias(weights, notes)
    for name in ("mlp.b_in", "mlp.b_out"):
        _drop_zero(weights, name, "our MLPs have no biases")
    W_in, W_out = weights["mlp.W_in"], weights["mlp.W_out"]
    features, inputs = W_out.shape[1], W_in.shape[0]
    if inputs not in (features, 2 * features):
        raise InputError(
            f"W_in reads {inputs} numbers, expected {features} (a sum) or {2 * features} (a and b side by side)"
        )
    embedding = "none" if "embed.W_E" not in weights else "untied" if "unembed.W_U" in weights else "tied"
    if embedding == "none":
        p = _modulus(features, p, "the outputs of W_out")
        if "unembed.W_U" in weights:
            raise InputError("there is an unembedding and no embedding")
    else:
        p = _modulus(weights["embed.W_E"].shape[0], p, "the rows of W_E")
    model = ModelConfig(
        family="mlp",
        d_mlp=_agreed("d_mlp", W_in.shape[1], given),
        d_model=_agreed("d_model", features, given) if embedding != "none" else ModelConfig.d_model,
        activation=given.get("activation") or "relu",
        inputs=_agreed("inputs", "sum" if inputs == features else "concatenated", given),
        embedding=_agreed("embedding", embedding, given),
    )
    return weights, model, p


def _fold_hidden_bias(weights: Weights, notes: list[str]) -> None:
    """Of one-hot inputs one of a and one of b is 1: half of b_in in every row of W_in adds b_in, whatever they are."""
    if "embed.W_E" in weights or not weights.get("mlp.b_in", torch.zeros(1)).any():
        return
    b_in, W_in = weights.pop("mlp.b_in").double(), weights["mlp.W_in"]
    weights["mlp.W_in"] = (W_in.double() + b_in / 2).to(W_in.dtype)
    notes.append("mlp.b_in was folded into W_in, half of it in every row: two rows are read for every pair")


# ---- tensors that no rule speaks of --------------------------------------------------------------------------------


def of_no_use(name: str, tensor: Tensor, recognized: Mapping[str, Tensor]) -> str | None:
    """Why a tensor that the layout does not know can be left out, or None when it may matter."""
    last = name.rpartition(".")[2]
    is_mask = last in ("mask", "causal_mask", "attn_mask") and tensor.ndim >= 2
    if is_mask and _hides(tensor):
        return None
    copied = next((other for other, weight in recognized.items() if _is_copy(tensor, weight)), None)
    reasons = {
        "an attention mask": is_mask,
        "the value of a masked score": last == "IGNORE" and tensor.numel() == 1,
        f"{str(tensor.dtype).removeprefix('torch.')}, so no weight": not tensor.is_floating_point(),
        "zero": not tensor.any(),
        f"a copy of {copied}": copied is not None,
        "an orthogonal basis": tensor.ndim == 2 and _is_basis(tensor),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _hides(mask: Tensor) -> bool:
    """Whether a mask treats what the last position, which alone is read, sees differently; `causal` says what earlier
    ones see."""
    return mask.shape[-1] == mask.shape[-2] > 0 and bool((mask[..., -1, :] != mask[..., -1, -1:]).any())


def _is_copy(tensor: Tensor, weight: Tensor) -> bool:
    """Whether a tensor repeats a weight, or of a matrix the first rows and columns, turned or not."""
    if tensor.ndim == weight.ndim == 2:
        return _is_beginning(tensor, weight) or _is_beginning(tensor.T, weight)
    return tensor.shape == weight.shape and torch.equal(tensor, weight)


def _is_beginning(tensor: Tensor, weight: Tensor) -> bool:
    rows, columns = tensor.shape
    return rows <= weight.shape[0] and columns <= weight.shape[1] and torch.equal(tensor, weight[:rows, :columns])


def _is_basis(tensor: Tensor) -> bool:
    """Whether rows (or columns) are orthogonal and of one length, up to the constant of an unnormalized Fourier
    basis."""
    if min(tensor.shape) < 3 or not tensor.is_floating_point():
        return False
    rows = (tensor if tensor.shape[0] <= tensor.shape[1] else tensor.T).double()
    if not rows.isfinite().all():
        return False
    gram = rows @ rows.T
    lengths = gram.diagonal()
    return bool(
        (gram - lengths.diag()).abs().max() <= 1e-5 * lengths.max() and lengths[1:].min() >= 0.49 * lengths[1:].max()
    )
