"""For tests, here and in plug-ins: networks and logits with a planted circuit, and `check_analysis`, which holds an
analysis to its contract."""

from interp.testing.constructed import (
    LookupTable,
    Neuron,
    accompany,
    circuit_checkpoint,
    circuit_model,
    circuit_neurons,
    circuit_weights,
    gromov_neurons,
    ideal_logits,
    with_logits,
)
from interp.testing.contract import check_analysis

__all__ = [
    "LookupTable",
    "Neuron",
    "accompany",
    "check_analysis",
    "circuit_checkpoint",
    "circuit_model",
    "circuit_neurons",
    "circuit_weights",
    "gromov_neurons",
    "ideal_logits",
    "with_logits",
]
