"""The explanation says what the results say, at every checkpoint, and shows what speaks against it."""

import json
import math
from dataclasses import replace

import pytest
import torch

import interp
from interp.analyses import circuit_split, progress_measures
from interp.analysis import analyze, find
from interp.explanation import EVIDENCE, Explanation, explain, explanation_of
from interp.explanation.circuit_sentences import the_competition
from interp.explanation.run_facts import setting_of
from interp.explanation.run_sentences import VERDICTS
from interp.explanation.states import Known, state_of
from interp.models import initial_weights
from interp.testing import circuit_model, circuit_neurons, circuit_weights

SCHEMA = {
    "run": {
        "verdict",
        "memorized_at",
        "memorized_after",
        "memorized_seen_for",
        "generalized_at",
        "generalized_after",
        "generalized_seen_for",
        "held_out_accuracy",
        "held_out_accuracy_at",
        "falls",
        "delay",
        "phases",
        "forces",
        "independent_held_out_pairs",
    },
    "checkpoint": {
        "step",
        "state",
        "loss",
        "accuracy",
        "restricted_loss",
        "excluded_loss",
        "key_frequencies",
        "has_circuit",
        "gain_alone",
        "strength",
        "standard_error",
        "ablation",
        "periodic_neurons",
        "neurons",
        "calibrated_periodic_neurons",
        "l2_norm",
        "gini_embedding",
        "gini_output",
        "circuit",
        "circuit_witnesses",
    },
}
SPLITS = {"all", "train", "test", "held_out"}


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
        assert set(numbers["checkpoint"][name]) == SPLITS
    assert all(set(phase) == {"name", "start", "end", "interval", "signals"} for phase in numbers["run"]["phases"])


def test_the_numbers_are_those_of_the_checkpoint(reference, grokked):
    last, checkpoint = reference.last, grokked.numbers["checkpoint"]
    assert [entry["frequency"] for entry in checkpoint["key_frequencies"]] == last.key_frequencies
    for split in SPLITS:
        assert checkpoint["loss"][split] == pytest.approx(last.loss(split), rel=1e-5)
        assert checkpoint["accuracy"][split] == pytest.approx(last.accuracy(split), abs=1e-12)
    norm = torch.cat([weight.flatten() for weight in last.weights.values()]).double().norm().item()
    assert checkpoint["l2_norm"] == pytest.approx(norm, rel=1e-12)
    assert checkpoint["periodic_neurons"] == 121
    assert checkpoint["excluded_loss"]["train"] > 1000 * checkpoint["restricted_loss"]["train"]


def test_the_states_of_a_run_follow_one_another(reference):
    states = [explain(reference, step).numbers["checkpoint"]["state"] for step in (0, 46, 100, 400, 1000, 3000)]
    assert states == ["start", "memorizing", "memorizing", "both", "generalizing", "generalizing"]


def test_it_tells_the_story_and_what_speaks_against_it(grokked):
    text = " ".join(grokked.long.split())
    for part in (
        "It grokked: 100 % of the held-out pairs, 99 % from step 950 on",
        "from step 100 on (not at 92) and of the held-out pairs from step 950 on (not at 925), 825 to 858 steps later",
        "at least 9.2 times as many",
        "121 of 128",
        "k = 12 (67 %), k = 3 (20 %), k = 11 (12 %)",
        "fixed gap",
        "(a, b) whose mirror (b, a) was not trained on either",
        "any 6 of a random matrix have 14 %",
        "held-out loss and excluded loss",  # the signals of a phase are named
    ):
        assert part in text, part
    for part in ("None", "nan", "efficien", "weight decay", "causes", "because of"):
        assert part not in text, part


@pytest.mark.parametrize("step", [0, 46, 100, 400, 600, 1000, 3000])
def test_the_short_story_has_at_most_twelve_lines_of_a_hundred_letters(reference, step):
    lines = str(explain(reference, step)).splitlines()
    assert 3 <= len(lines) <= 12
    assert max(map(len, lines)) <= 100
    assert not any("k =" in line[-4:] for line in lines), "a frequency is not torn from its number"
    starts = [number for number, line in enumerate(lines) if number and not line.startswith(" ")]
    assert all(lines[number - 1][-1] in ".)" or number == 1 for number in starts), "no sentence is cut off"


def test_a_step_that_was_not_saved_is_named_with_the_nearest(reference):
    with pytest.raises(interp.InputError, match="no checkpoint of step 401; the nearest is 400"):
        explain(reference, 401)


def test_evidence_that_is_missing_is_named(reference):
    with pytest.raises(interp.InputError, match="calibration, circuit_forces"):
        explanation_of(reference, analyze(reference, EVIDENCE[2:]))


@pytest.mark.parametrize("step", [3000, 400])
def test_the_competition_of_the_circuits_is_told(reference, step):
    """Who was stronger, and since when, in the whole run; and both strengths at the checkpoint that is looked at."""
    result = reference.result("circuit_split")
    split, at_step = circuit_split.summary(result), circuit_split.summary(result.sel(step=[step]))
    text = " ".join(explain(reference, step).paragraphs[-1].split())
    assert f"at most {split['highest_memorizing_strength']:.2g} logits (step 131)" in text
    assert f"at step {step:,} it gives it {at_step['strength']['memorizing']:.2g}" in text
    assert f"in common gives it {at_step['strength']['generalizing']:.2g}" in text
    # At 600 its strength is nearly that of the memory, and another answer than the right one leads in it.
    assert "The latter is the stronger, with the right answer ahead in it, from step 700 on (not at 600)" in text


@pytest.mark.parametrize("step", [100, 300])
def test_a_number_belongs_to_the_set_of_frequencies_that_it_is_named_with(reference, step):
    """At step 300 k = 10 is key, and at the last checkpoint no more."""
    found = explain(reference, step)
    own = progress_measures.measure(reference[step], key_frequencies=reference[step].key_frequencies)
    assert found.numbers["checkpoint"]["restricted_loss"]["held_out"] == float(
        own.restricted_loss.sel(split="held_out")
    )
    assert found.numbers["checkpoint"]["excluded_loss"]["all"] == float(own.excluded_loss.sel(split="all"))
    text = " ".join(found.long.split())
    if step == 300:
        assert "With k = 10, 11, 12 alone the loss on held-out pairs is" in text
    else:
        assert "The rule calls k = 11, 12 key, but alone they do not clearly answer better than a guess" in text
        assert "The last checkpoint of the run that has one is that of step 3,000: k = 3, 11, 12" in text


def test_a_memorizer_has_no_lead_to_tell_of(reference):
    split = {
        "highest_memorizing_strength": 14.0,
        "highest_memorizing_strength_at": 100,
        "highest_generalizing_strength": 3.0,
        "generalizing_leads_from": None,
        "generalizing_led_not_at": None,
    }
    strength = {"generalizing": 0.0, "memorizing": 12.0}
    text = the_competition(3000, strength, split, setting_of(reference, analyze(reference, EVIDENCE)))
    assert "it gives it 12" in text
    assert "gives it about 0" in text
    assert "At no checkpoint does the latter take the lead" in text


def test_a_run_that_lost_its_circuit_still_tells_of_it(reference, tmp_path):
    """Crushed for its last checkpoints: the circuit, its losses and the check are those of the step that is looked
    at."""
    with interp.RunWriter.create(tmp_path / "crushed", reference.task, reference.model) as writer:
        for step in (0, 46, 100, 400, 700, 800, 900, 1000, 1200, 1400, 2000):
            writer.append(step, reference[step].weights)
        for step in (2100, 2200, 2300):
            writer.append(step, {name: 0.02 * weight for name, weight in reference[2000].weights.items()})
    run = interp.open_run(tmp_path / "crushed")
    end, before = explain(run), explain(run, 2000)
    assert end.headline.startswith("It generalized and lost it again: 100 % of the held-out pairs")
    assert end.numbers["checkpoint"]["state"] == "lost"
    told = " ".join(str(end).split())
    assert (
        "no frequency is key. The last checkpoint of the run that has one is that of step 2,000: k = 3, 11, 12" in told
    )
    same = explain(reference, 2000).numbers["checkpoint"]
    for name in ("restricted_loss", "excluded_loss", "key_frequencies", "state", "ablation"):
        assert before.numbers["checkpoint"][name] == same[name], name


def test_without_a_split_and_without_a_history(reference, tmp_path):
    task = replace(reference.task, split="unknown")
    with interp.RunWriter.create(tmp_path / "grokked", task, reference.model) as writer:
        writer.append(-1, reference.last.weights)
    explanation = explain(interp.open_run(tmp_path / "grokked"))
    assert explanation.headline == f"{VERDICTS['unknown']}: the split is unknown"
    assert "it answers 100 % of all pairs" in explanation.long
    assert explanation.numbers["checkpoint"]["state"] == "unknown"  # nobody knows what it could have memorized
    assert explanation.numbers["checkpoint"]["has_circuit"]
    assert explanation.numbers["checkpoint"]["loss"]["test"] is None
    assert any("split is unknown" in sentence for sentence in explanation.unsaid)


@pytest.mark.parametrize("operation", ["add", "random"])
def test_an_untrained_network_has_no_circuit(operation, tmp_path):
    task, model = interp.Task(p=23, operation=operation, train_fraction=0.5), interp.ModelConfig(d_model=16, d_mlp=32)
    with interp.RunWriter.create(tmp_path / "untrained", task, model) as writer:
        writer.append(0, initial_weights(model, task.p))
    checkpoint = explain(interp.open_run(tmp_path / "untrained")).numbers["checkpoint"]
    assert checkpoint["state"] == "start"
    assert checkpoint["key_frequencies"] == []
    assert checkpoint["circuit"] is None


GROKKED = Known(1.0, 1.0, 1e-7, True, True, 1.0, 22.0, 27.0, 5000, 2500, 113)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "generalizing"),
        ({"has_circuit": False, "part_answers": False}, "generalizing"),  # by another circuit than a sparse one
        ({"held_out_accuracy": 0.4}, "both"),
        ({"held_out_accuracy": 0.01, "part_answers": False}, "both"),  # a circuit grows unseen
        ({"held_out_accuracy": 0.01, "part_answers": False, "has_circuit": False}, "memorizing"),
        ({"held_out_accuracy": 0.3, "part_answers": False, "has_circuit": False}, "both"),  # by whatever it does
        ({"held_out_accuracy": 0.13, "has_circuit": False, "part_answers": False, "guessed": 0.13}, "memorizing"),
        ({"independent": 19}, "unknown"),
        ({"independent": 19, "held_out_accuracy": 1.0, "held_out_pairs": 30}, "unknown"),
        ({"held_out_accuracy": 0.97, "held_out_pairs": 100, "independent": 60}, "both"),
        ({"held_out_accuracy": 0.98, "held_out_pairs": 100, "independent": 60}, "generalizing"),  # all but two
        ({"train_accuracy": math.nan, "held_out_accuracy": math.nan}, "unknown"),
    ],
)
def test_the_state_of_a_network_that_knows_its_training_pairs(changes, expected):
    assert state_of(replace(GROKKED, **changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "start"),
        ({"norm": 3.9}, "lost"),  # crushed by weight decay
        ({"knew_before": 1.0}, "lost"),
        ({"train_loss": 2.0}, "memorizing"),  # has begun
        ({"independent": 0, "held_out_accuracy": math.nan}, "start"),
        ({"independent": 0, "held_out_accuracy": math.nan, "train_loss": 2.0}, "unknown"),
    ],
)
def test_the_state_of_a_network_that_does_not(changes, expected):
    fresh = Known(0.01, 0.01, 4.73, False, False, 0.01, 27.0, 27.0, 5000, 2500, 113)
    assert state_of(replace(fresh, **changes)) == expected


def test_a_network_that_uses_all_frequencies_is_described_as_such(tmp_path):
    task, neurons = interp.Task(13, train_fraction=0.4), circuit_neurons(range(1, 7), per_frequency=5)
    model = circuit_model(neurons, family="mlp")
    with interp.RunWriter.create(tmp_path / "run", task, model) as writer:
        writer.append(0, circuit_weights(task, model, neurons))
    found = explain(interp.open_run(tmp_path / "run"))
    assert found.numbers["checkpoint"]["state"] == "generalizing"
    assert any("6 of 6 frequencies are key: no sparse circuit" in line for line in found.against)


def test_the_check_compares_cuts_on_the_same_pairs(reference):
    """Random sets are judged on a sample of pairs, so what stands beside them is that sample's."""
    results = analyze(reference, EVIDENCE)
    of_sample = find("frequency_ablation").summary(results["frequency_ablation"])["accuracy_in_sample"]
    targets = explanation_of(reference, results).numbers["checkpoint"]["ablation"]["targets"]
    assert {place: found["without"] for place, found in targets.items()} == {
        place: of_sample[place]["held_out"] for place in ("embedding", "neurons")
    }
