"""What analyses say of a network whose norms do nothing is what they say of the network without."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import interp
from interp.analysis import discover, measure_checkpoint
from interp.experiment import Norm
from interp.models import Weights
from interp.runs import Checkpoint

SMALL = 1e-4
PLACES = ("attention", "mlp", "final")
# What also asks for the gains, which are weights like others, or draws a network of the kind anew.
OTHERWISE = {
    "calibration": {"random_network_threshold"},
    "circuit_efficiency": {"norm", "tensor_norm", "efficiency"},
    "circuit_split": {"degree"},
    "curvature": {"negative_share", "eigenvalue", "trace", "spectrum", "gradient_norm"},
    "norm_landscape": {"loss", "accuracy", "l2", "shell_factor", "shell_norm", "shell_loss"},
    "weight_norms": {"l1", "l2", "rms", "total_l1", "total_l2"},
}
BY_CHECKPOINT = sorted(name for name, analysis in discover().items() if not analysis.of_run)


def with_a_small_stream(weights: Weights) -> Weights:
    """The same network, in float64, with everything that is written into the residual stream 10,000 times smaller, and
    read as many times larger. x ↦ x/√(mean x² + 1) does next to nothing to such a stream."""
    scaled = {name: weight.double() for name, weight in weights.items()}
    for name in ("embed.W_E", "pos_embed.W_pos", "blocks.0.attn.W_O", "blocks.0.mlp.W_out", "blocks.0.mlp.b_out"):
        scaled[name] = scaled[name] * SMALL
    for name in ("blocks.0.attn.W_Q", "blocks.0.attn.W_K", "blocks.0.attn.W_V", "blocks.0.mlp.W_in", "unembed.W_U"):
        scaled[name] = scaled[name] / SMALL
    return scaled


@pytest.fixture(scope="module")
def pair() -> tuple[Checkpoint, Checkpoint]:
    """A network that has grokked, without norms and with norms that do nothing."""
    last = interp.open_run(interp.reference_path()).last
    weights = with_a_small_stream(last.weights)
    gains = {f"blocks.0.ln{n}.w": torch.ones(32).double() for n in (1, 2)} | {"ln_final.w": torch.ones(32).double()}
    model = replace(last.model, norm=Norm(kind="rms", epsilon=1.0, at=PLACES))
    return Checkpoint(3000, weights, last.task, last.model), Checkpoint(3000, weights | gains, last.task, model)


def test_the_norms_do_nothing(pair: tuple[Checkpoint, Checkpoint]) -> None:
    plain, normed = pair
    largest = plain.logits.abs().max().item()
    assert 0 < (plain.logits - normed.logits).abs().max().item() < 1e-6 * largest


@pytest.mark.parametrize("name", BY_CHECKPOINT)
def test_what_is_said_is_the_same(pair: tuple[Checkpoint, Checkpoint], name: str) -> None:
    plain, normed = (measure_checkpoint(checkpoint, name) for checkpoint in pair)
    for variable in plain.data_vars.keys() - OTHERWISE.get(name, set()):
        values, expected = normed[variable].values, plain[variable].values
        if values.dtype.kind == "f":
            scale = np.nanmax(np.abs(expected), initial=1e-12)
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4 * scale, err_msg=f"{name}: {variable}")
        else:
            assert (values == expected).all(), f"{name}: {variable}"
