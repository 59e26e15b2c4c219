"""Evidence for key frequencies beside the published rules: planted circuits, networks that know nothing, and what each
rule says of them."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import interp
from interp.analyses import frequency_evidence
from interp.analysis import find, measure_checkpoint
from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.mathematics.key_frequencies import NORM_THRESHOLD
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import Neuron, circuit_checkpoint, circuit_neurons, circuit_weights, ideal_logits, with_logits
from interp.training import train


def facts_of(checkpoint: Checkpoint) -> dict:
    return find("frequency_evidence").summary(measure_checkpoint(checkpoint, "frequency_evidence"))


@pytest.mark.parametrize(("p", "operation"), [(13, "add"), (23, "subtract"), (17, "multiply"), (23, "divide")])
@pytest.mark.parametrize("activation", ["relu", "square"])
def test_all_rules_agree_on_a_planted_clock(p, operation, activation):
    neurons = circuit_neurons([2, 5], per_frequency=16, circuit="clock")
    result = frequency_evidence.measure(circuit_checkpoint(Task(p, operation), neurons, activation=activation))
    planted = np.isin(result.frequency.values, [2, 5])
    assert_array_equal(result.is_key, planted)
    for rule in frequency_evidence.RULES:
        assert_array_equal(result.is_key_by.sel(rule=rule), planted)
    assert_array_equal(result.deviations > result.attrs["limit"], planted)


def test_strength_deviations_and_losses_of_an_exact_clock():
    """All pairs judge: α_k is what was planted, and of waves without noise z_k is √(2(m − 1))."""
    strengths = {2: 3.0, 5: 6.0}
    logits = sum(strength * ideal_logits(13, [k], "clock") for k, strength in strengths.items())
    result = frequency_evidence.measure(with_logits(Task(13, split="unknown"), logits))
    assert result.attrs["judged_by"] == "all pairs"
    assert_allclose(result.strength, [strengths.get(k, 0.0) for k in range(1, 7)], atol=1e-12)
    m = 13 * 14 // 2  # unordered pairs
    assert_allclose(result.deviations, [(2 * (m - 1)) ** 0.5 if k in strengths else 0 for k in range(1, 7)], rtol=0.02)

    def loss(of) -> float:
        return float(-of[0, 0].log_softmax(-1)[0])  # of every pair the same

    assert_allclose(result.loss, loss(logits), rtol=1e-9)
    for k, other in ((2, 5), (5, 2)):
        without = loss(strengths[other] * ideal_logits(13, [other], "clock"))
        assert_allclose(result.loss_factor.sel(frequency=k), without / loss(logits), rtol=0.02)


def test_neurons_that_do_not_reach_the_logits_are_named_by_the_weights_alone():
    checkpoint = circuit_checkpoint(Task(13), [*circuit_neurons([2]), Neuron(5, 0.1, 0.1)])
    checkpoint.W_out[-1] = 0
    facts = facts_of(checkpoint)
    assert facts["key_frequencies"] == [2]
    assert facts["key_frequencies_by"] == {"embedding": [2, 5], "output": [2], "neurons": [2, 5]}


def test_dead_neurons_name_no_frequency():
    model = ModelConfig(d_model=8, n_heads=1, d_mlp=30)
    checkpoint = Checkpoint(0, circuit_weights(Task(7), model, circuit_neurons([3])), Task(7), model)
    assert facts_of(checkpoint)["key_frequencies_by"]["neurons"] == [3]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_an_untrained_network_the_published_rules_call_nearly_every_frequency_key(seed):
    model = ModelConfig(d_model=32, n_heads=2, d_mlp=64, seed=seed)
    facts = facts_of(Checkpoint(0, initial_weights(model, 23), Task(23), model))
    assert facts["key_frequencies"] == []
    assert [len(facts["key_frequencies_by"][rule]) >= 8 for rule in frequency_evidence.RULES] == [True] * 3


def test_of_a_memorizer_they_do_too():
    task, model = Task(23, "random", train_fraction=0.3), ModelConfig(d_model=32, n_heads=2, d_mlp=64)
    *_, last = train(Experiment(task, model, TrainingConfig(steps=100, lr=1e-2, checkpoint_every=None, log_every=100)))
    assert last.metrics["train_accuracy"] == 1.0
    facts = facts_of(Checkpoint(last.step, last.weights, task, model))
    assert facts["key_frequencies"] == facts["signal_without_size"] == []
    assert len(facts["key_frequencies_by"]["output"]) >= 8


def test_equal_logits_and_zero_weights_have_no_evidence():
    model = ModelConfig(d_model=8, n_heads=1, d_mlp=8)
    silent = Checkpoint(0, {n: torch.zeros_like(w) for n, w in initial_weights(model, 7).items()}, Task(7), model)
    facts = facts_of(silent)
    assert facts["key_frequencies"] == []
    assert facts["key_frequencies_by"] == {"embedding": [], "output": [], "neurons": []}
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_the_reference_run_is_told_from_pairs_that_it_did_not_train_on():
    run = interp.open_run(interp.reference_path())
    first, last = facts_of(run[100]), facts_of(run.last)
    assert last["key_frequencies"] == [3, 11, 12]
    assert last["judged_by"] == first["judged_by"] == "held-out pairs"
    assert min(last["deviations"].values()) > 20 > last["limit"]
    assert min(last["loss_factor"].values()) > 1e3
    # While it memorizes, a quarter of the largest norm of W_L calls most of the 21 key.
    assert len(first["key_frequencies_by"]["output"]) > 10 > len(first["key_frequencies"])


def test_a_quarter_of_the_largest_norm_is_the_published_rule():
    checkpoint = circuit_checkpoint(Task(13), circuit_neurons([2, 5], per_frequency=9))
    for factor, found in ((NORM_THRESHOLD * 1.01, [2, 5]), (NORM_THRESHOLD * 0.99, [2])):
        quieter = circuit_checkpoint(Task(13), circuit_neurons([2, 5], per_frequency=9))
        quieter.W_out[9:] *= factor
        assert facts_of(quieter)["key_frequencies_by"]["output"] == found
    assert facts_of(checkpoint)["key_frequencies_by"]["output"] == [2, 5]


def test_the_figure_shows_both_conditions_and_every_rule():
    run = interp.open_run(interp.reference_path())
    figure = find("frequency_evidence").module.plot(run.result("frequency_evidence"))
    text = json.dumps(figure.to_plotly_json(), default=str)
    for words in ("held-out pairs", "1 of 100 by chance", "this rule", "norm of W", "neurons", "or 0.1 nats more"):
        assert words in text
