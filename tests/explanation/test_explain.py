"""The explanation says what the results say, at every checkpoint, and shows what speaks against it."""

import json
from dataclasses import replace

import pytest
import torch

import interp
from interp.analyses import circuit_split
from interp.analysis import analyze
from interp.explanation import EVIDENCE, Explanation, explain, explanation_of
from interp.explanation.explanation import state_of
from interp.explanation.run_facts import setting_of
from interp.explanation.sentences import VERDICTS, the_competition
from interp.models import initial_weights
from interp.testing import circuit_model, circuit_neurons, circuit_weights

SCHEMA = {
    "run": {"verdict", "memorized_at", "generalized_at", "generalized_at_sustained", "phases"},
    "checkpoint": {
        "step",
        "state",
        "loss",
        "accuracy",
        "restricted_loss",
        "excluded_loss",
        "key_frequencies",
        "periodic_neurons",
        "neurons",
        "calibrated_periodic_neurons",
        "l2_norm",
        "gini_embedding",
        "gini_output",
        "circuit",
    },
}


@pytest.fixture(scope="module")
def reference() -> interp.Run:
    return interp.open_run(interp.reference_path())


@pytest.fixture(scope="module")
def grokked(reference) -> Explanation:
    return explain(reference)


def test_the_numbers_are_strict_json_of_the_documented_form(grokked):
    numbers = json.loads(json.dumps(grokked.numbers, allow_nan=False))
    assert {name: set(part) for name, part in numbers.items()} == SCHEMA
    for name in ("loss", "accuracy", "restricted_loss", "excluded_loss"):
        assert set(numbers["checkpoint"][name]) == {"all", "train", "test"}
    assert all(set(phase) == {"name", "start", "end", "interval"} for phase in numbers["run"]["phases"])


def test_the_numbers_are_those_of_the_checkpoint(reference, grokked):
    last, checkpoint = reference.last, grokked.numbers["checkpoint"]
    assert [entry["frequency"] for entry in checkpoint["key_frequencies"]] == last.key_frequencies
    for split in ("all", "train", "test"):
        assert checkpoint["loss"][split] == pytest.approx(last.loss(split), rel=1e-5)
        assert checkpoint["accuracy"][split] == pytest.approx(last.accuracy(split), abs=1e-12)
    norm = torch.cat([weight.flatten() for weight in last.weights.values()]).double().norm().item()
    assert checkpoint["l2_norm"] == pytest.approx(norm, rel=1e-12)
    assert checkpoint["periodic_neurons"] == 121
    assert checkpoint["excluded_loss"]["train"] > 1000 * checkpoint["restricted_loss"]["train"]


def test_the_states_of_a_run_follow_one_another(reference):
    states = [explain(reference, step).numbers["checkpoint"]["state"] for step in (0, 46, 400, 1000, 3000)]
    assert states[0] == "untrained"
    assert states[2:] == ["in transition", "generalizing", "generalizing"]
    order = ["untrained", "memorizing", "in transition", "generalizing"]
    assert [order.index(state) for state in states] == sorted(order.index(state) for state in states)


def test_it_tells_the_story_and_what_speaks_against_it(grokked):
    text = " ".join(str(grokked).split())
    for part in ("It grokked", "step 950", "9.5 times", "121 of 128", "3 (20 %), 11 (12 %), 12 (67 %)", "fixed gap"):
        assert part in text, part
    assert "None" not in text


def test_a_step_that_was_not_saved_is_named_with_the_nearest(reference):
    with pytest.raises(interp.InputError, match="no checkpoint of step 401; the nearest is 400"):
        explain(reference, 401)


def test_evidence_that_is_missing_is_named(reference):
    with pytest.raises(interp.InputError, match="calibration, circuit_efficiency"):
        explanation_of(reference, analyze(reference, EVIDENCE[2:]))


@pytest.mark.parametrize("step", [3000, 400])
def test_the_competition_of_the_circuits_is_told(reference, step):
    """Who was stronger, since when, and at what price, in the whole run; and both strengths at the checkpoint that is
    looked at."""
    result = reference.result("circuit_split")
    split, at_step = circuit_split.summary(result), circuit_split.summary(result.sel(step=[step]))
    text = " ".join(explain(reference, step).paragraphs[-1].split())
    assert f"at most {split['highest_memorizing_strength']:.2g} logits (step 100)" in text
    assert f"at step {step:,} it gives it {at_step['strength']['memorizing']:.2g}" in text
    assert f"alone, gives it {at_step['strength']['generalizing']:.2g}" in text
    assert "the stronger part from step 300 on" in text
    assert "At that step it had 1.34 times" in text
    assert "one number at one step, without an error, and no proof of what weight decay did" in text


def test_a_memorizer_has_no_lead_to_tell_of(reference):
    found = {
        "circuit_split": {
            "highest_memorizing_strength": 14.0,
            "highest_memorizing_strength_at": 100,
            "highest_generalizing_strength": 3.0,
            "generalizing_leads_from": None,
        },
        "circuit_efficiency": {"generalizing_leads_from": None, "efficiency_ratio_at_lead": None},
    }
    text = the_competition(
        3000, {"generalizing": 0.0, "memorizing": 12.0}, found, setting_of(reference, analyze(reference, EVIDENCE))
    )
    assert "it gives it 12" in text
    assert "the stronger part" not in text
    assert "weight decay" not in text


def test_without_a_split_and_without_a_history(reference, tmp_path):
    task = replace(reference.task, split="unknown")
    with interp.RunWriter.create(tmp_path / "grokked", task, reference.model) as writer:
        writer.append(-1, reference.last.weights)
    explanation = explain(interp.open_run(tmp_path / "grokked"))
    assert explanation.headline == VERDICTS["unknown"]
    assert explanation.numbers["checkpoint"]["state"] == "generalizing"
    assert explanation.numbers["checkpoint"]["loss"]["test"] is None
    assert any("split is unknown" in sentence for sentence in explanation.unsaid)


@pytest.mark.parametrize("operation", ["add", "random"])
def test_an_untrained_network_has_no_circuit(operation, tmp_path):
    task, model = interp.Task(p=23, operation=operation, train_fraction=0.5), interp.ModelConfig(d_model=16, d_mlp=32)
    with interp.RunWriter.create(tmp_path / "untrained", task, model) as writer:
        writer.append(0, initial_weights(model, task.p))
    checkpoint = explain(interp.open_run(tmp_path / "untrained")).numbers["checkpoint"]
    assert checkpoint["state"] == "untrained"
    assert checkpoint["key_frequencies"] == []
    assert checkpoint["circuit"] is None


@pytest.mark.parametrize(
    ("train", "test", "train_loss", "keys", "expected"),
    [
        (1.0, 0.995, 1e-6, 3, "generalizing"),
        (1.0, 0.995, 1e-6, 0, "generalizing"),  # by another circuit than a sparse one
        (1.0, 0.4, 1e-3, 2, "in transition"),
        (1.0, 0.1, 1e-3, 0, "memorizing"),
        (0.3, 0.02, 2.0, 0, "memorizing"),
        (0.02, 0.02, 4.6, 0, "untrained"),
        (None, None, None, 0, "unknown"),
    ],
)
def test_state(train, test, train_loss, keys, expected):
    checkpoint = {
        "accuracy": {"all": test, "train": train, "test": test},
        "loss": {"all": 1.0, "train": train_loss, "test": 1.0},
        "key_frequencies": [{"frequency": k, "share": 0.3} for k in range(1, keys + 1)],
    }
    assert state_of(checkpoint, 4.73) == expected


def test_a_network_that_uses_all_frequencies_is_described_as_such(tmp_path):
    task, neurons = interp.Task(13, split="unknown"), circuit_neurons(range(1, 7), per_frequency=5)
    model = circuit_model(neurons, family="mlp")
    with interp.RunWriter.create(tmp_path / "run", task, model) as writer:
        writer.append(0, circuit_weights(task, model, neurons))
    found = explain(interp.open_run(tmp_path / "run"))
    assert found.numbers["checkpoint"]["state"] == "generalizing"
    assert any("6 of 6 frequencies are key: no sparse circuit" in line for line in found.against)
