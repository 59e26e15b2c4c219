"""The network as a TransformerLens `TransformerBridge`."""

from typing import TYPE_CHECKING, Any

import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.models.transformer import unembedding
from interp.models.values import Weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu-tanh": "gelu_new", "silu": "silu"}  # ours → theirs
EVERYWHERE = ("attention", "mlp", "final")


def bridge(weights: Weights, model: ModelConfig) -> "TransformerBridge":
    """The same network as a TransformerLens `TransformerBridge`, ready for `run_with_cache` and hooks.

    Its input is the tokens of the prompt: (a, b, p) or (a, b), with two vocabularies (a, p + b, 2p) or (a, p + b); its
    answer is `bridge(tokens)[:, -1]`, or at `model.answer_at`. A tied unembedding is a copy of its own there. Raises
    InputError for what TransformerLens cannot express, naming it: an MLP, an attention rate other than 1, the square
    activation, norms after what is added or at some places alone, biases of a gated MLP, and learned beside rotary
    positions.

    >>> bridge({}, ModelConfig(family="mlp"))
    Traceback (most recent call last):
        ...
    interp.errors.InputError: TransformerLens cannot express model.family 'mlp', only 'transformer'
    """
    options = bridge_options(weights, model)
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native import boot as boot_native
    from transformer_lens.utilities.tl_checkpoint_conversion import convert_tl_checkpoint

    config = TransformerBridgeConfig(**options)
    network = boot_native(config, dtype=weights["embed.W_E"].dtype)
    network.load_state_dict(convert_tl_checkpoint(classic_state(weights, model), config), strict=True)
    return network.eval()


def bridge_options(weights: Weights, model: ModelConfig) -> dict[str, Any]:
    """The options of TransformerLens' `TransformerBridgeConfig` for a network. Raises InputError for what it cannot
    express.

    >>> from interp.models import initial_weights
    >>> options = bridge_options(initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7), model)
    >>> options["d_vocab"], options["d_vocab_out"], options["normalization_type"]
    (8, 7, None)
    """
    _check_expressible(weights, model)
    kinds = {"none": None, "layer": "LN", "rms": "RMS"}
    kind = kinds[model.norm.kind]
    options = {
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "n_ctx": model.n_ctx,
        "d_head": model.head_size,
        "n_heads": model.n_heads,
        "d_mlp": model.d_mlp,
        "d_vocab": weights["embed.W_E"].shape[0],
        "d_vocab_out": unembedding(weights, model).shape[1],
        "act_fn": ACTIVATIONS[model.activation],
        "attention_dir": "causal" if model.causal else "bidirectional",
        "normalization_type": kind if kind is None or model.norm.learned else f"{kind}Pre",
    }
    if kind is not None:
        options["eps"] = model.norm.epsilon
    if model.mlp.gated:
        options["gated_mlp"] = True
    if (base := model.attention.rotary_base) is not None:
        options |= {"positional_embedding_type": "rotary", "rotary_base": base, "rotary_dim": model.head_size}
    return options


def _check_expressible(weights: Weights, model: ModelConfig) -> None:
    if model.family != "transformer":
        raise InputError(f"TransformerLens cannot express model.family {model.family!r}, only 'transformer'")
    if model.attention_rate != 1:
        raise InputError(f"TransformerLens cannot express model.attention-rate {model.attention_rate:g}, only 1")
    if model.activation not in ACTIVATIONS:
        raise InputError(
            f"TransformerLens has no activation {model.activation!r}; its native models have {', '.join(ACTIVATIONS)}"
        )
    if model.norm.kind != "none" and (model.norm.order, model.norm.at) != ("pre", EVERYWHERE):
        raise InputError(
            f"TransformerLens cannot express norms of order {model.norm.order!r} at {', '.join(model.norm.at)}; its "
            "native models have them before attention, MLP and unembedding, or nowhere"
        )
    without_place = []
    if model.mlp.gated:
        without_place += [f"blocks.{layer}.mlp.{b}" for layer in range(model.n_layers) for b in ("b_in", "b_out")]
    if model.attention.rotary_base is not None:
        without_place.append("pos_embed.W_pos")
    if found := next((name for name in without_place if name in weights and weights[name].any()), None):
        raise InputError(f"TransformerLens' native models have no place for {found}, and it is not zero")


def classic_state(weights: Weights, model: ModelConfig) -> Weights:
    """All of a classic TransformerLens state dict: our weights, a copy of a tied embedding as W_U, and the biases that
    we do not have, zero. Rotary planes are those of neighbors there.

    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7)
    >>> sorted(classic_state(weights, model).keys() - weights.keys())
    ['blocks.0.attn.b_K', 'blocks.0.attn.b_O', 'blocks.0.attn.b_Q', 'blocks.0.attn.b_V', 'unembed.b_U']
    """
    dtype = weights["embed.W_E"].dtype
    state = {"unembed.b_U": torch.zeros(unembedding(weights, model).shape[1], dtype=dtype)} | weights
    state["unembed.W_U"] = unembedding(weights, model).contiguous()
    is_rotary = model.attention.rotary_base is not None
    if is_rotary:
        del state["pos_embed.W_pos"]
    for layer in range(model.n_layers):
        attn, mlp = f"blocks.{layer}.attn", f"blocks.{layer}.mlp"
        of_heads = {name: torch.zeros(model.n_heads, model.head_size, dtype=dtype) for name in ("b_Q", "b_K", "b_V")}
        biases = of_heads | {"b_O": torch.zeros(model.d_model, dtype=dtype)}
        state |= {f"{attn}.{name}": zero for name, zero in biases.items() if f"{attn}.{name}" not in state}
        if is_rotary:
            for name in ("W_Q", "W_K", "b_Q", "b_K"):
                halves = state[f"{attn}.{name}"].unflatten(-1, (2, -1))
                state[f"{attn}.{name}"] = halves.transpose(-1, -2).flatten(-2).contiguous()
        if model.mlp.gated:
            del state[f"{mlp}.b_in"], state[f"{mlp}.b_out"]
    return state
