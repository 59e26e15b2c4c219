"""What a network could be that our models cannot hold: run beside a reading, so that no network is called read that is
only the nearest one we have.

Each challenger takes the same weights and runs them in another way: attention and MLP side by side, an activation that
our models lack, a mean over positions in place of one of them. Where that is better than the reading, the file is none
of ours, and the challenger says why. What takes no part in the weights and was not thought of here (a cap on scores,
say) cannot be told so.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from interp.experiment import Activation, ModelConfig
from interp.interchange.importing.search import (
    ANSWERS,
    BETTER,
    FAR,
    LOSS_FACTOR,
    REST_FACTOR,
    Judge,
    Outcome,
    is_surely_lower,
)
from interp.interchange.layouts.fitting import Fitted
from interp.models import FAMILIES, Weights, activate, embed, transformer

LEAST = 0.9  # of the pairs: of two networks that answer little neither is what was trained
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "elu": functional.elu,
    "leaky relu": functional.leaky_relu,
    "the square of relu": lambda x: functional.relu(x).square(),
    "x·sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "mish": functional.mish,
    "softplus": functional.softplus,
    "none": lambda x: x,
}


@dataclass(frozen=True)
class Way:
    """A way to run the weights of a model that is none of ours."""

    words: str
    activation: str | None = None
    parallel: bool = False  # attention and MLP read the same and are added together
    residual: bool = True
    pooled: Literal["mean", "maximum", "sum"] | None = None  # over positions, before a final norm
    normed_pool: bool = False  # after it
    alibi: bool = False
    exchanged_norms: bool = False
    two_hidden: bool = False  # of an MLP: a nonlinearity after W_out too
    added_inputs: bool = False  # of an MLP: what it reads is added to what it says
    added_hidden: bool = False  # of an MLP with several hidden layers: what a layer after the first reads is added too
    turned_hidden: bool = False  # these in the opposite order


@dataclass(frozen=True)
class Beside:
    """What a challenger answers, and whether it is better than the reading, as good, or worse."""

    way: Way
    outcome: Outcome
    verdict: Literal["better", "as good", "worse"]


def ways(model: ModelConfig) -> list[Way]:
    """The challengers of a model.

    >>> [way.words for way in ways(ModelConfig(family="mlp"))][-1]
    'the activation none'
    """
    found = []
    if model.family == "transformer":
        found = [
            Way("attention and MLP side by side (parallel blocks)", parallel=True),
            Way("no residual stream", residual=False),
            Way("attention biased by distance (ALiBi)", alibi=True),
        ]
        found += [Way(f"the {how} over positions", pooled=how) for how in ("mean", "maximum", "sum")]
        if model.norm.is_at("final"):
            found += [
                Way(f"the {how} over positions, after the final norm", pooled=how, normed_pool=True)
                for how in ("mean", "maximum")
            ]
        if model.norm.is_at("attention") and model.norm.is_at("mlp") and model.norm.learned:
            found.append(Way("the two norms of a layer exchanged", exchanged_norms=True))
    elif model.embedding != "none":
        found = [Way("two hidden layers", two_hidden=True)]
        if model.inputs == "sum":
            found.append(Way("a residual around its hidden layer", added_inputs=True))
    if model.family == "mlp" and model.n_layers > 1:
        found.append(Way("a residual around its hidden layers", added_hidden=True))
        if model.n_layers > 2:
            found.append(Way("its hidden layers in the opposite order", turned_hidden=True))
    others = [name for name in get_args(Activation) if name != model.activation]
    # What is read with the wrong structure is often read with the wrong activation too.
    found += [replace(way, words=f"{way.words}, and {name}", activation=name) for way in found for name in others]
    return found + [Way(f"the activation {name}", activation=name) for name in _ACTIVATIONS]


def beside(judge: Judge, fitted: Fitted, best: Outcome) -> list[Beside]:
    """What each challenger answers, beside a reading with the outcome `best` over every pair."""
    found = []
    some = judge.judge(fitted)
    rest: list[float] = []
    for way in ways(fitted.model):

        def run(weights: Weights, model: ModelConfig, pairs: Tensor, way: Way = way) -> Tensor:
            return run_as(way, weights, model, pairs)

        outcome = judge.judge(fitted, run=run)
        if outcome.accuracy >= max(some.accuracy, LEAST) - FAR:
            outcome = judge.judge(fitted, every=True, run=run)

        def is_nearer_rest(run: Any = run, sign: int = 1) -> bool:
            if not rest:
                rest.append(judge.unrest(fitted))
            other = judge.unrest(fitted, run=run)
            one, two = (other, rest[0]) if sign > 0 else (rest[0], other)
            return one * REST_FACTOR < two

        verdict: Literal["better", "as good", "worse"] = "as good"
        if abs(outcome.accuracy - best.accuracy) > BETTER or len(outcome.losses) != len(best.losses):
            is_better = outcome.accuracy > max(best.accuracy + BETTER, LEAST)
            verdict = "better" if is_better else "worse"
        elif min(outcome.accuracy, best.accuracy) >= ANSWERS:
            if _is_lower(outcome, best) and is_nearer_rest():
                verdict = "better"
            elif _is_lower(best, outcome) and is_nearer_rest(sign=-1):
                verdict = "worse"
        found.append(Beside(way, outcome, verdict))
    return found


def _is_lower(one: Outcome, other: Outcome) -> bool:
    return one.loss * LOSS_FACTOR < other.loss and is_surely_lower(one, other)


# ---- running ---------------------------------------------------------------------------------------------------------


def run_as(way: Way, weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"]) -> Float[Tensor, "n classes"]:
    """The logits of the pairs, with the weights run in that way.

    >>> from interp.models import initial_weights, logits
    >>> weights = initial_weights(model := ModelConfig(d_model=8, n_heads=2, d_mlp=4), 7)
    >>> pairs = torch.tensor([[2, 3], [0, 6]])
    >>> bool(torch.allclose(run_as(Way("as it is"), weights, model, pairs), logits(weights, model, pairs), atol=1e-5))
    True
    """
    return (_mlp if model.family == "mlp" else _transformer)(way, weights, model, pairs)


def _act(way: Way, model: ModelConfig, x: Tensor) -> Tensor:
    name = way.activation or model.activation
    return _ACTIVATIONS[name](x) if name in _ACTIVATIONS else activate(cast(Activation, name), x)


def _mlp(way: Way, weights: Weights, model: ModelConfig, pairs: Tensor) -> Tensor:
    x = embed(weights, model, pairs)
    read = x.sum(1) if model.inputs == "sum" else x.flatten(1)
    y = _act(way, model, read @ weights["mlp.W_in"] + weights.get("mlp.b_in", 0))
    layers = range(1, model.n_layers)
    for layer in reversed(layers) if way.turned_hidden else layers:
        h = y @ weights[f"mlp.W_{layer}"] + weights.get(f"mlp.b_{layer}", 0)
        y = _act(way, model, h) + y if way.added_hidden else _act(way, model, h)
    said = y @ weights["mlp.W_out"] + weights.get("mlp.b_out", 0)
    if model.embedding == "none":
        return said
    said = _act(way, model, said) if way.two_hidden else said
    said = said + read if way.added_inputs else said
    return said @ FAMILIES["mlp"].unembedding(weights, model) + weights.get("unembed.b_U", 0)


def _transformer(way: Way, weights: Weights, model: ModelConfig, pairs: Tensor) -> Tensor:
    if way.exchanged_norms:
        other = {"ln1": "ln2", "ln2": "ln1"}
        swapped = {".".join(other.get(part, part) for part in name.split(".")): name for name in weights}
        weights = {name: weights[source] for name, source in swapped.items()}
    bias = _by_distance(model) if way.alibi else None
    pre, x = model.norm.order == "pre", embed(weights, model, pairs)

    def normed(place: Any, name: str, x: Tensor, *, before: bool) -> Tensor:
        return transformer.norm(weights, model, name, x) if model.norm.is_at(place) and pre == before else x

    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        seen = normed("attention", f"{block}.ln1", x, before=True)
        attended, _ = transformer.attend(weights, model, f"{block}.attn", seen, slice(None), bias=bias)
        mid = normed("attention", f"{block}.ln1", x + attended if way.residual else attended, before=False)
        of_mlp = mid
        if way.parallel:
            of_mlp = x if model.norm.is_at("mlp") else seen
        read = normed("mlp", f"{block}.ln2", of_mlp, before=True)
        added = _neurons(way, weights, model, f"{block}.mlp", read) @ weights[f"{block}.mlp.W_out"]
        added = added + weights[f"{block}.mlp.b_out"]
        x = mid + added if way.residual else added
        if layer < model.n_layers - 1:
            x = normed("mlp", f"{block}.ln2", x, before=False)
    if way.pooled is None:
        return transformer.answer(weights, model, x[:, model.answer_at % x.shape[1]])[1]
    if not way.normed_pool:
        return transformer.answer(weights, model, _pooled(way, x))[1]
    last = replace(model, norm=replace(model.norm, at=("final",)))
    said = _pooled(way, transformer.norm(weights, last, "ln_final", x))
    return said @ transformer.unembedding(weights, model) + weights.get("unembed.b_U", 0)


def _pooled(way: Way, x: Float[Tensor, "n positions d_model"]) -> Float[Tensor, "n d_model"]:
    return {"mean": x.mean(1), "maximum": x.amax(1), "sum": x.sum(1)}[way.pooled or "mean"]


def _neurons(way: Way, weights: Weights, model: ModelConfig, mlp: str, x: Tensor) -> Tensor:
    h = x @ weights[f"{mlp}.W_in"] + weights[f"{mlp}.b_in"]
    return _act(way, model, x @ weights[f"{mlp}.W_gate"]) * h if model.mlp.gated else _act(way, model, h)


def _by_distance(model: ModelConfig) -> Float[Tensor, "heads positions positions"]:
    """−slope·distance, the slopes 2^(−8/H), 2^(−16/H), … of Press et al. 2022, arXiv:2108.12409."""
    slopes = 2 ** (-8 * torch.arange(1, model.n_heads + 1) / model.n_heads)
    places = torch.arange(model.n_ctx)
    return -slopes[:, None, None] * (places[:, None] - places).abs()
