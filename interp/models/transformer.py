"""The transformer: it reads the prompt and answers at one position.

With tokens t_0 … t_{T−1}, per layer, over the positions that a position may see,

    x ← W_E[t] + W_pos
    attention_h = α·softmax(q_h k_hᵀ/√d_head) + (1 − α)·ones,   q_h = x W_Q^h + b_Q^h,   k_h = x W_K^h + b_K^h
    x ← x + Σ_h attention_h (x W_V^h + b_V^h) W_O^h + b_O
    x ← x + act(x W_in + b_in) W_out + b_out
    logits = x_{T−1} W_U + b_U

(Nanda et al. 2023, arXiv:2301.05217, §3, who have of the biases b_in and b_out alone; α: Zhong et al. 2023,
arXiv:2306.17844, §4). What else a `ModelConfig` can ask for: norms before what is read (pre) or after what is added
(post), and before the unembedding; neurons act(x W_gate)·(x W_in + b_in); rotary positions; an unembedding tied to the
embedding; another position that answers. The last layer is computed at that position only. Of one layer,
`interp.models.one_layer` takes the forward pass, and the plain network on `ab=` has an exact factored form
(`interp.models.factored_gradient`).

A final norm ν(x) = x̂·w + b makes the logits x̂ diag(w) W_U + (b W_U + b_U), where x̂ is x, centred for a layer norm, over
a length of its own for every example. So the matrix that x̂ is read by, `matrices(…).W_U`, has the gain w folded in, and
for a layer norm the centring, which is a projection. It is W_U itself where there is no such norm.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.experiment import ModelConfig
from interp.models.activations import activate
from interp.models.values import Activations, Drop, Matrices, Sizes, Weights, keep


def shapes(model: ModelConfig, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every weight and its shape. The vocabulary is 0 … p−1 (with two, p … 2p−1 for b as well), and then the constant
    tokens of the prompt in their order."""
    n_heads, d_head, d_model, d_mlp = model.n_heads, model.head_size, model.d_model, model.d_mlp
    named: dict[str, tuple[int, ...]] = {
        "embed.W_E": (model.d_vocab(sizes.inputs), d_model),
        "pos_embed.W_pos": (model.n_ctx, d_model),
    }
    gain_and_shift = {"layer": ("w", "b"), "rms": ("w",)}.get(model.norm.kind, ()) if model.norm.learned else ()
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        if model.norm.is_at("attention"):
            named |= {f"{block}.ln1.{name}": (d_model,) for name in gain_and_shift}
        named |= {f"{block}.attn.{name}": (n_heads, d_model, d_head) for name in ("W_Q", "W_K", "W_V")}
        named[f"{block}.attn.W_O"] = (n_heads, d_head, d_model)
        if model.biases:
            named |= {f"{block}.attn.{name}": (n_heads, d_head) for name in ("b_Q", "b_K", "b_V")}
            named[f"{block}.attn.b_O"] = (d_model,)
        if model.norm.is_at("mlp"):
            named |= {f"{block}.ln2.{name}": (d_model,) for name in gain_and_shift}
        if model.mlp.gated:
            named[f"{block}.mlp.W_gate"] = (d_model, d_mlp)
        named |= {f"{block}.mlp.W_in": (d_model, d_mlp), f"{block}.mlp.b_in": (d_mlp,)}
        named |= {f"{block}.mlp.W_out": (d_mlp, d_model), f"{block}.mlp.b_out": (d_model,)}
    if model.norm.is_at("final"):
        named |= {f"ln_final.{name}": (d_model,) for name in gain_and_shift}
    if not model.tied:
        named["unembed.W_U"] = (d_model, sizes.classes)
    if model.biases:
        named["unembed.b_U"] = (sizes.classes,)
    return named


def inverse_variance(name: str, shape: tuple[int, ...], model: ModelConfig, sizes: Sizes) -> int:
    """1/variance of the initial values: d_model, and d_vocab for W_U (the authors' code)."""
    return shapes(model, sizes)["embed.W_E"][0] if name == "unembed.W_U" else model.d_model


def last_mlp(model: ModelConfig) -> str:
    """What the names of the last layer's W_in, b_in, W_out and b_out begin with."""
    return f"blocks.{model.n_layers - 1}.mlp"


def neuron_axes(model: ModelConfig) -> dict[str, int]:
    """The tensors that have an axis of the last layer's neurons, and which axis it is."""
    layer = last_mlp(model)
    gate = {f"{layer}.W_gate": 1} if model.mlp.gated else {}
    return {f"{layer}.W_in": 1, **gate, f"{layer}.b_in": 0, f"{layer}.W_out": 0}


def matrices(weights: Weights, model: ModelConfig) -> Matrices:
    """Those of the last layer, and the whole embedding. The norm before the unembedding is folded into W_U: its gain,
    and the centring of a layer norm."""
    layer, norms = last_mlp(model), _last_norms(model)
    W_U = through = unembedding(weights, model)
    for place, name in enumerate(reversed(norms)):
        through = _folded(weights, model, name, through)
        W_U = through if place == 0 else W_U
    W_E, W_in, W_out = weights["embed.W_E"], weights[f"{layer}.W_in"], weights[f"{layer}.W_out"]
    return Matrices(W_E, W_in, W_out, W_U, through if len(norms) > 1 else None)


def _folded(weights: Weights, model: ModelConfig, name: str, matrix: Tensor) -> Float[Tensor, "d_model classes"]:
    """What x̂ is multiplied by where the norm x̂·w + b is read by a matrix."""
    if f"{name}.w" in weights:
        matrix = weights[f"{name}.w"][:, None] * matrix
    return matrix - matrix.mean(0) if model.norm.kind == "layer" else matrix


def embed(
    weights: Weights, model: ModelConfig, pairs: Int[Tensor, "n 2"], vectors: Float[Tensor, "residues d_model"] | None
) -> Float[Tensor, "n positions d_model"]:
    """The residual stream before the first layer."""
    W_E = weights["embed.W_E"]
    if vectors is not None:
        W_E = torch.cat([vectors, W_E[len(vectors) :]])
    p = residues(weights, model)
    first_constant = model.first_token_of_b(p) + p
    of = {"a": pairs[:, 0], "b": pairs[:, 1] + model.first_token_of_b(p)}
    constants = {token: first_constant + number for number, token in enumerate(model.constants)}
    tokens = [of[token] if token in of else torch.full_like(pairs[:, 0], constants[token]) for token in model.prompt]
    return W_E[torch.stack(tokens, dim=1)] + weights["pos_embed.W_pos"]


def transform(
    weights: Weights, model: ModelConfig, x: Float[Tensor, "n positions d_model"], drop: Drop = keep
) -> Activations:
    """The layers and the unembedding, from any residual stream."""
    at = model.answer_at % x.shape[1]
    for layer in range(model.n_layers - 1):
        x, *_ = _layer(weights, model, layer, x, slice(None), drop=drop)
        if model.norm.order == "post" and model.norm.is_at("mlp"):
            x = norm(weights, model, f"blocks.{layer}.ln2", x)
    post, neurons, attention, mid = _layer(weights, model, model.n_layers - 1, x, slice(at, at + 1), drop=drop)
    read, logits = answer(weights, model, post[:, 0])
    return Activations(logits, neurons[:, 0], attention[:, :, 0], mid[:, 0], read)


def residual_post(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "... features"]:
    """What `matrices(…).W_U` reads, given the residual stream before the last MLP and its neurons: the residual stream
    after it, normalized where a norm stands before the unembedding."""
    layer = last_mlp(model)
    return answer(weights, model, mid + neurons @ weights[f"{layer}.W_out"] + weights[f"{layer}.b_out"])[0]


def answer_scale(
    weights: Weights, model: ModelConfig, mid: Float[Tensor, "... inputs"], neurons: Float[Tensor, "... d_mlp"]
) -> Float[Tensor, "..."]:
    """What one over the lengths multiplies to, by which the norms before the unembedding divide; 1 without any."""
    layer = last_mlp(model)
    stream = mid + neurons @ weights[f"{layer}.W_out"] + weights[f"{layer}.b_out"]
    scale = torch.ones_like(stream[..., 0])
    for name in _last_norms(model):
        scale = scale * _inverse_length(model, stream)[..., 0]
        stream = norm(weights, model, name, stream)
    return scale


def norm(weights: Weights, model: ModelConfig, name: str, x: Float[Tensor, "... d_model"]) -> Tensor:
    """The norm layer of that name, with its gain and shift where it has them.

    >>> from interp.experiment import Norm
    >>> model = ModelConfig(norm=Norm(kind="layer", epsilon=0.0))
    >>> norm({"ln_final.w": torch.tensor(2.0)}, model, "ln_final", torch.tensor([1.0, 3.0]))
    tensor([-2.,  2.])
    """
    normalized = _normalized(model, x)
    if f"{name}.w" in weights:
        normalized = normalized * weights[f"{name}.w"]
    return normalized + weights[f"{name}.b"] if f"{name}.b" in weights else normalized


def _normalized(model: ModelConfig, x: Float[Tensor, "... d_model"]) -> Tensor:
    centred = x - x.mean(-1, keepdim=True) if model.norm.kind == "layer" else x
    return centred * _inverse_length(model, x)


def _inverse_length(model: ModelConfig, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... 1"]:
    if model.norm.kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    return (x.square().mean(-1, keepdim=True) + model.norm.epsilon).rsqrt()


def _last_norms(model: ModelConfig) -> list[str]:
    """The norms between the last residual stream and the unembedding, in their order."""
    after_mlp = model.norm.order == "post" and model.norm.is_at("mlp")
    return [f"blocks.{model.n_layers - 1}.ln2"] * after_mlp + ["ln_final"] * model.norm.is_at("final")


def unembedding(weights: Weights, model: ModelConfig) -> Float[Tensor, "d_model classes"]:
    """W_U as it stands, with no norm folded in: where it is tied, the residues' rows of W_E."""
    return weights["embed.W_E"][: residues(weights, model)].T if model.tied else weights["unembed.W_U"]


def residues(weights: Weights, model: ModelConfig) -> int:
    """p, from the size of the vocabulary."""
    vocabularies = 2 if model.vocabularies == "two" else 1
    return (len(weights["embed.W_E"]) - len(model.constants)) // vocabularies


def classes(weights: Weights, model: ModelConfig) -> int:
    """The number of classes."""
    return residues(weights, model) if model.tied else weights["unembed.W_U"].shape[1]


def answer(weights: Weights, model: ModelConfig, stream: Float[Tensor, "... d_model"]) -> tuple[Tensor, Tensor]:
    """From the residual stream with what the last MLP added: what `matrices(…).W_U` reads, and the logits."""
    read = stream
    for name in _last_norms(model):
        read, stream = _normalized(model, stream), norm(weights, model, name, stream)
    logits = stream @ unembedding(weights, model)
    return read, logits + weights["unembed.b_U"] if model.biases else logits


def _layer(
    weights: Weights, model: ModelConfig, layer: int, x: Tensor, queries: slice, *, drop: Drop
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One layer at the positions `queries`: the residual stream with what it adds, before a norm that may follow, its
    neurons, its attention, the residual stream within."""
    block, pre = f"blocks.{layer}", model.norm.order == "pre"
    of_attention, of_mlp = model.norm.is_at("attention"), model.norm.is_at("mlp")
    seen = norm(weights, model, f"{block}.ln1", x) if of_attention and pre else x
    attended, attention = attend(weights, model, f"{block}.attn", seen, queries)
    mid = x[:, queries] + attended
    if of_attention and not pre:
        mid = norm(weights, model, f"{block}.ln1", mid)
    read = norm(weights, model, f"{block}.ln2", mid) if of_mlp and pre else mid
    neurons = drop(neurons_of(weights, model, f"{block}.mlp", read))
    return mid + neurons @ weights[f"{block}.mlp.W_out"] + weights[f"{block}.mlp.b_out"], neurons, attention, mid


def attend(
    weights: Weights, model: ModelConfig, attn: str, x: Tensor, queries: slice, *, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What attention adds at the positions `queries`, and how much each of them looks at every position; a `bias` is
    added to the scores [heads, queries, positions]."""
    W_Q, W_K, W_V, W_O = (weights[f"{attn}.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O"))
    visible = x.new_ones(x.shape[1], x.shape[1], dtype=torch.bool)
    visible = (visible.tril() if model.causal else visible)[queries]
    query = torch.einsum("nqd,hde->nhqe", x[:, queries], W_Q)
    key = torch.einsum("nkd,hde->nhke", x, W_K)
    value = torch.einsum("nkd,hde->nhke", x, W_V)
    if model.biases:
        query = query + weights[f"{attn}.b_Q"][:, None]
        key = key + weights[f"{attn}.b_K"][:, None]
        value = value + weights[f"{attn}.b_V"][:, None]
    if (base := model.attention.rotary_base) is not None:
        positions = torch.arange(x.shape[1], device=x.device)
        query, key = turned(query, positions[queries], base), turned(key, positions, base)
    scores = query @ key.transpose(-1, -2) / math.sqrt(W_Q.shape[-1])  # [n, heads, queries, positions]
    scores = scores if bias is None else scores + bias
    softmax = scores.masked_fill(~visible, -torch.inf).softmax(-1)
    attention = model.attention_rate * softmax + (1 - model.attention_rate) * visible.to(x.dtype)
    attended = torch.einsum("nhqe,hed->nqd", attention @ value, W_O)
    return attended + weights[f"{attn}.b_O"] if model.biases else attended, attention


def turned(x: Float[Tensor, "... t e"], positions: Int[Tensor, " t"], base: float) -> Float[Tensor, "... t e"]:
    """Queries or keys with the planes (i, i + e/2) turned by position·base^(−2i/e)."""
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half, dtype=x.dtype, device=x.device) / half)
    angles = positions.to(x.dtype)[:, None] * rates
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def neurons_of(weights: Weights, model: ModelConfig, mlp: str, x: Tensor) -> Tensor:
    """The neurons of the MLP of that name, after the nonlinearity, for what W_in reads."""
    h = x @ weights[f"{mlp}.W_in"] + weights[f"{mlp}.b_in"]
    if model.mlp.gated:
        return activate(model.activation, x @ weights[f"{mlp}.W_gate"]) * h
    return activate(model.activation, h)
