"""The network as a TransformerLens `TransformerBridge`."""

from typing import TYPE_CHECKING, Any

import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.models.values import Weights

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def bridge(weights: Weights, model: ModelConfig) -> "TransformerBridge":
    """The same network as a TransformerLens `TransformerBridge`, ready for `run_with_cache` and hooks.

    Its input is tokens (a, b, p) or (a, b), with two vocabularies (a, p + b, 2p) or (a, p + b); its answer is
    `bridge(tokens)[:, -1]`. Raises InputError for what TransformerLens cannot express: an MLP, an attention rate other
    than 1, and the square activation.

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
    if model.family != "transformer":
        raise InputError(f"TransformerLens cannot express model.family {model.family!r}, only 'transformer'")
    if model.attention_rate != 1:
        raise InputError(f"TransformerLens cannot express model.attention-rate {model.attention_rate:g}, only 1")
    if model.activation == "square":
        raise InputError("TransformerLens has no activation 'square'; its native models have relu and gelu")
    return {
        "n_layers": model.n_layers,
        "d_model": model.d_model,
        "n_ctx": model.n_ctx,
        "d_head": model.head_size,
        "n_heads": model.n_heads,
        "d_mlp": model.d_mlp,
        "d_vocab": weights["embed.W_E"].shape[0],
        "d_vocab_out": weights["unembed.W_U"].shape[1],
        "act_fn": model.activation,
        "attention_dir": "causal" if model.causal else "bidirectional",
        "normalization_type": None,
    }


def classic_state(weights: Weights, model: ModelConfig) -> Weights:
    """All of a classic TransformerLens state dict: our weights, and the biases that we do not have, zero.

    >>> from interp.models import initial_weights
    >>> weights = initial_weights(model := ModelConfig(d_model=8, d_mlp=4), 7)
    >>> sorted(classic_state(weights, model).keys() - weights.keys())
    ['blocks.0.attn.b_K', 'blocks.0.attn.b_O', 'blocks.0.attn.b_Q', 'blocks.0.attn.b_V', 'unembed.b_U']
    """
    dtype = weights["embed.W_E"].dtype
    state = dict(weights) | {"unembed.b_U": torch.zeros(weights["unembed.W_U"].shape[1], dtype=dtype)}
    for layer in range(model.n_layers):
        attn = f"blocks.{layer}.attn"
        state |= {
            f"{attn}.{name}": torch.zeros(model.n_heads, model.head_size, dtype=dtype) for name in ("b_Q", "b_K", "b_V")
        }
        state[f"{attn}.b_O"] = torch.zeros(model.d_model, dtype=dtype)
    return state
