"""Networks as named weights: shapes, forward passes, the closed-form gradient, the bridge to TransformerLens."""

from interp.models.activations import activate
from interp.models.derivatives import gradient, gradients_of_sums, logits_and_derivatives
from interp.models.factored_gradient import Each
from interp.models.families import FAMILIES
from interp.models.forward import (
    answer_scale,
    embed,
    forward_all,
    is_factored,
    logits,
    logits_with_vectors,
    matrices,
    method,
    neuron_axes,
    residual_post,
    transform,
    unembedding,
)
from interp.models.hessian import Hessian
from interp.models.input_gradients import input_gradients
from interp.models.one_operation import of_operation
from interp.models.recorded_module import own_weights
from interp.models.recording import Reader, Recording, Tokens, record
from interp.models.snapshot import BLOCK, DivergedError, Snapshot
from interp.models.transformer import norm
from interp.models.transformer_bridge import bridge, bridge_options, classic_state
from interp.models.values import Activations, Drop, Sizes, Weights
from interp.models.weights import are_finite, check_weights, initial_weights, is_vector, weight_shapes

__all__ = [
    "BLOCK",
    "FAMILIES",
    "Activations",
    "DivergedError",
    "Drop",
    "Each",
    "Hessian",
    "Reader",
    "Recording",
    "Sizes",
    "Snapshot",
    "Tokens",
    "Weights",
    "activate",
    "answer_scale",
    "are_finite",
    "bridge",
    "bridge_options",
    "check_weights",
    "classic_state",
    "embed",
    "forward_all",
    "gradient",
    "gradients_of_sums",
    "initial_weights",
    "input_gradients",
    "is_factored",
    "is_vector",
    "logits",
    "logits_and_derivatives",
    "logits_with_vectors",
    "matrices",
    "method",
    "neuron_axes",
    "norm",
    "of_operation",
    "own_weights",
    "record",
    "residual_post",
    "transform",
    "unembedding",
    "weight_shapes",
]
