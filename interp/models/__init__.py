"""Networks as named weights: shapes, forward passes, the closed-form gradient, the bridge to TransformerLens."""

from interp.models.factored_gradient import Each
from interp.models.forward import (
    Activations,
    embed,
    forward_all,
    is_factored,
    logits,
    logits_with_vectors,
    method,
    output_map,
    output_matrix,
    residual_post,
    token_vectors,
    transform,
)
from interp.models.snapshot import DivergedError, Snapshot
from interp.models.transformer_bridge import bridge, bridge_options, classic_state
from interp.models.weights import Weights, are_finite, check_weights, initial_weights, weight_shapes

__all__ = [
    "Activations",
    "DivergedError",
    "Each",
    "Snapshot",
    "Weights",
    "are_finite",
    "bridge",
    "bridge_options",
    "check_weights",
    "classic_state",
    "embed",
    "forward_all",
    "initial_weights",
    "is_factored",
    "logits",
    "logits_with_vectors",
    "method",
    "output_map",
    "output_matrix",
    "residual_post",
    "token_vectors",
    "transform",
    "weight_shapes",
]
