"""Description length: of networks whose shortest code is known, and of runs whose course is known."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import interp
from interp.analyses import description_length
from interp.analysis import measure_checkpoint
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics.coarse_graining import Factored, shortest
from interp.models import initial_weights, logits
from interp.runs import Checkpoint
from interp.training import train

SMALL = ModelConfig(d_model=16, n_heads=2, d_mlp=32)


def shortest_bytes(found, epsilon: float) -> float:
    return found.bits.sel(epsilon=epsilon, code="shortest").item() / 8


def at(step: int) -> Checkpoint:
    return interp.open_run(interp.reference_path())[step]


def last_of(task: Task, **training) -> Checkpoint:
    experiment = Experiment(task, SMALL, TrainingConfig(lr=1e-2, log_every=100, checkpoint_every=None, **training))
    snapshots = list(train(experiment))
    return Checkpoint(snapshots[-1].step, snapshots[-1].weights, task, SMALL)


# ---- closed forms ----------------------------------------------------------------------------------------------------


def test_weights_that_are_zero_cost_their_headers() -> None:
    weights = {name: torch.zeros_like(weight) for name, weight in initial_weights(SMALL, 7).items()}
    found = description_length.measure(Checkpoint(0, weights, Task(7), SMALL))
    # Δ, and of each tensor factors of rank 0, which have no integers: the 3 bits of their form.
    assert_allclose(found.bits.sel(code=["shortest", "dense"]), 32 + 3 * len(weights))
    assert found.symmetry_bits.values.tolist() == [0] * 5
    assert_allclose(found.coarse_train_loss, math.log(7))
    n = len(Task(7).train_indices)
    assert_allclose(found.two_part_bits, found.bits.sel(code="shortest") + n * math.log2(7))
    assert_allclose(found.reference_bits[:2], [n * math.log2(7), 49 * math.log2(7)])


def test_an_untrained_network_is_said_in_no_time() -> None:
    assert shortest_bytes(description_length.measure(at(0)), 1.0) < 20


def test_a_receiver_who_has_the_code_has_the_loss() -> None:
    """The integers and the shapes alone give the network whose loss is told."""
    checkpoint = at(1000)
    found = description_length.measure(checkpoint, tolerances=(1.0,)).sel(epsilon=1.0)
    weights = {name: weight.numpy() for name, weight in checkpoint.weights.items()}
    inputs = torch.from_numpy(checkpoint.task.inputs[checkpoint.task.train_indices])
    labels = torch.from_numpy(checkpoint.task.labels[checkpoint.task.train_indices])

    def loss(coarse) -> float:
        said = logits({name: torch.from_numpy(one) for name, one in coarse.items()}, checkpoint.model, inputs)
        return torch.nn.functional.cross_entropy(said.double(), labels).item()

    (code,) = shortest(Factored(weights), lambda coarse: abs(loss(coarse) - checkpoint.loss("train")), [1.0])
    assert code is not None
    assert code.code.bits == found.bits.sel(code="shortest")
    received = code.code.decoded({name: weight.shape for name, weight in checkpoint.weights.items()})
    assert loss(received) == pytest.approx(found.coarse_train_loss.item(), abs=1e-6)
    assert abs(found.coarse_train_loss.item() - checkpoint.loss("train")) < 1


# ---- the course of runs ----------------------------------------------------------------------------------------------


def test_it_rises_in_memorization_and_falls_at_generalization() -> None:
    steps = {"untrained": 0, "memorized": 100, "plateau": 400, "generalized": 1000}
    bytes_at = {name: shortest_bytes(description_length.measure(at(step)), 1.0) for name, step in steps.items()}
    assert bytes_at["untrained"] < 20
    assert 1500 < bytes_at["generalized"] < bytes_at["memorized"] / 2
    assert bytes_at["generalized"] < bytes_at["plateau"] / 2 < bytes_at["memorized"] / 2


def test_it_stays_above_the_labels_and_compressed_weights_stay_where_they_are() -> None:
    found = [description_length.measure(at(step)) for step in (100, 1000, 3000)]
    assert all(
        bool((one.two_part_bits > 3 * one.reference_bits.sel(reference="training labels")).all()) for one in found
    )
    raw = [one.reference_bits.sel(reference="float32 under bzip2").item() for one in found]
    assert max(raw) < 1.02 * min(raw)


@pytest.mark.parametrize("labels", ["random", "no decay"])
def test_what_never_generalizes_never_falls(labels: str) -> None:
    task = Task(13, "random", 0.6) if labels == "random" else Task(13, "add", 0.6)
    decay = {"random": 1.0, "no decay": 0.0}[labels]
    early, late = (last_of(task, steps=steps, weight_decay=decay) for steps in (150, 500))
    assert min(early.accuracy("train"), late.accuracy("train")) > 0.99
    assert late.accuracy("held_out") < 0.5
    sizes = [shortest_bytes(description_length.measure(one, tolerances=[0.1]), 0.1) for one in (early, late)]
    assert sizes[1] > 0.75 * sizes[0]


# ---- what is not known -----------------------------------------------------------------------------------------------


def test_without_a_split_codes_are_unknown() -> None:
    task = Task(7, split="unknown")
    found = measure_checkpoint(Checkpoint(0, initial_weights(SMALL, 7), task, SMALL), "description_length")
    assert np.isnan(found.bits).all()
    known = ["all labels", "float32 under bzip2"]
    assert np.isnan(found.reference_bits.sel(reference="training labels")).all()
    assert (found.reference_bits.sel(reference=known) > 0).all()


@pytest.mark.parametrize("tolerances", [(0.0,), (-1.0, 1.0), (0.1, 0.1), (math.nan,)])
def test_tolerances_that_cannot_be_are_refused(tolerances) -> None:
    with pytest.raises(interp.InputError, match="tolerances"):
        description_length.measure(at(0), tolerances=tolerances)


def test_neurons_that_are_alike_say_nothing_by_their_order() -> None:
    weights = {"W_in": np.array([[1.0, 1, 2], [0, 0, 0]]), "b": np.array([0.0, 0, 1])}
    assert description_length.symmetry_bits(weights, {"W_in": 1, "b": 0, "absent": 1}) == pytest.approx(math.log2(3))
