"""The explanation of runs that are not the usual one: no test pairs, stopped early, diverged, never trained, other
tasks and models."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.analysis import analyze, measure_checkpoint
from interp.explanation import EVIDENCE, Explanation, explain, explanation_of
from interp.explanation.circuit_sentences import the_competition
from interp.explanation.doubts import against, unsaid
from interp.explanation.run_facts import Setting, setting_of
from interp.explanation.run_sentences import the_norms
from interp.figures import as_norm, as_number
from interp.mathematics import grokking
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.sweeps import run_experiment
from interp.testing import circuit_model, circuit_neurons, circuit_weights

SMALL = interp.ModelConfig(d_model=8, n_heads=2, d_mlp=12)


def written(folder, task, model, weights, *, metrics=None, training=None) -> interp.Run:
    """A run whose checkpoints have these weights, by step."""
    with interp.RunWriter.create(folder, task, model, training) as writer:
        for step, tensors in weights.items():
            writer.append(step, tensors, (metrics or {}).get(step))
    return interp.open_run(folder)


def logged(folder, metrics, planned_steps) -> interp.Run:
    """A run of these curves, by step, whose weights never change."""
    weights, training = initial_weights(SMALL, 13), interp.TrainingConfig(steps=planned_steps)
    return written(folder, interp.Task(13), SMALL, dict.fromkeys(metrics, weights), metrics=metrics, training=training)


def of_accuracies(train, test, step, loss=1.0) -> dict[str, float]:
    losses = dict.fromkeys(("train_loss", "test_loss", "unmirrored_test_loss"), loss)
    return losses | {"train_accuracy": train, "test_accuracy": test, "unmirrored_test_accuracy": test}


def told(explanation: Explanation) -> str:
    return " ".join(explanation.long.split())


def evidence(n_frequencies: int, **changes) -> dict:
    rules = {"embedding": [], "output": [], "neurons": []}
    found = {"n_frequencies": n_frequencies, "judged_by": "held-out pairs", "key_frequencies": []}
    return found | {"key_frequencies_by": rules, "signal_without_size": []} | changes


def setting(task=None, model=None, **changes) -> Setting:
    """A run that memorized, and knew half of the held-out pairs at its end."""
    curves = np.array([[0.0, 1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]])
    usual = Setting(
        task=task or interp.Task(23),
        model=model or SMALL,
        learned=grokking.events(np.arange(0, 301, 60), curves),
        planned_steps=300,
        last_step=300,
        diverged_at=None,
        accuracy_at=300,
        accuracy={"train": 1.0, "test": 0.5, "held_out": 0.5},
        late_changes=(),
        key_frequencies=(),
        key_frequencies_of_step=None,
    )
    return replace(usual, **changes)


def no_lead(highest_memorizing, at, highest_generalizing):
    """The summary of `circuit_split` of a run in which what generalizes never takes the lead."""
    strengths = {"highest_memorizing_strength": highest_memorizing, "highest_memorizing_strength_at": at}
    lead = {"generalizing_leads_from": None, "generalizing_led_not_at": None}
    return strengths | lead | {"highest_generalizing_strength": highest_generalizing}


@pytest.fixture(scope="module")
def reference() -> interp.Run:
    return interp.open_run(interp.reference_path())


@pytest.fixture(scope="module")
def results(reference):
    return analyze(reference, EVIDENCE)


# ---- excluded loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "excluded", "rises"),
    [
        (3.9, 9.7, True),
        (0.55, 3.7, True),
        (6.5, 16.0, True),
        (1.9, 7.3, True),
        (1e-7, 12.0, True),
        (3.9, 4.0, False),
        (1e-7, 0.5, False),
    ],
)
def test_whether_the_loss_rises_without_the_key_frequencies(reference, results, loss, excluded, rises):
    """By its share of what guessing costs, ln 43 = 3.8: a loss that is large already cannot become ten times as
    large."""
    checkpoint = explanation_of(reference, results).numbers["checkpoint"]
    losses = {"loss": loss, "excluded_loss": excluded, "restricted_loss": loss}
    checkpoint |= {name: {"held_out": value, "all": 7.0} for name, value in losses.items()} | {"ablation": None}
    summaries = {"frequency_evidence": evidence(21), "clock_pizza": {"verdict": "neither"}}
    summaries["transitions"] = {"fixed_gap_verdict": "unknown"}
    said = list(against({"verdict": "memorization"}, checkpoint, summaries, setting(interp.Task(43))))
    assert (
        said == []
        if rises
        else any(f"goes from {as_number(loss)} to {as_number(excluded)} only" in line for line in said)
    )


# ---- no test pairs ---------------------------------------------------------------------------------------------------


def test_without_test_pairs_nothing_is_said_of_them(tmp_path):
    task, neurons = interp.Task(13, train_fraction=1.0), circuit_neurons([1, 3], per_frequency=10)
    model = circuit_model(neurons)
    run = written(
        tmp_path / "run", task, model, {0: initial_weights(model, 13), 100: circuit_weights(task, model, neurons)}
    )
    found = explain(run)
    text = told(found)
    assert "There are no test pairs: all 169 were trained on" in text
    assert "It knew all but two of them from step 100 on (not at 0; the last that is logged)" in text
    assert "split is unknown" not in text
    assert "curves cannot decide" not in text
    assert "Without held-out pairs what was memorized cannot be told from what generalizes" in text
    assert found.headline == "What happened cannot be told: it was trained on all pairs"
    assert found.numbers["checkpoint"]["key_frequencies"]
    assert found.numbers["checkpoint"]["state"] == "unknown"
    assert explain(run, 0).numbers["checkpoint"]["state"] == "start"
    assert {fact.label: fact.value for fact in found.facts}["loss on held-out pairs"] == "no test pairs"


def test_too_few_held_out_pairs_are_no_ground_for_a_verdict(tmp_path):
    """A network that answers everything, and whose curves would be a textbook case: what 12 pairs say is no verdict."""
    task, neurons = interp.Task(13, train_fraction=0.7), circuit_neurons([1, 3], per_frequency=10)
    assert task.n_held_out < 20 < task.test_mask.sum()
    model = circuit_model(neurons)
    weights = circuit_weights(task, model, neurons)
    metrics = {step: of_accuracies(float(step > 0), float(step > 50), step) for step in range(0, 101, 10)}
    found = explain(written(tmp_path / "run", task, model, dict.fromkeys(metrics, weights), metrics=metrics))
    n = task.n_held_out
    assert found.headline == f"What happened cannot be told: only {n} independent pairs are held out, and 20 are needed"
    assert found.numbers["run"]["verdict"] == found.numbers["checkpoint"]["state"] == "unknown"
    assert "grok" not in str(found)
    assert "generaliz" not in str(found).replace("from what generalizes", "")


# ---- runs that ended early -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> interp.Run:
    """It memorized, and its held-out accuracy was rising to the end."""
    weights = initial_weights(SMALL, 13)
    metrics = {s: of_accuracies(min(s / 50, 1.0), max(0, s - 60) / 50, s, 1.0) for s in range(0, 101, 5)}
    training = interp.TrainingConfig(steps=100)
    return written(
        tmp_path_factory.mktemp("stopped") / "run",
        interp.Task(13),
        SMALL,
        dict.fromkeys(metrics, weights),
        metrics=metrics,
        training=training,
    )


def test_a_verdict_that_more_steps_could_overturn_names_them(stopped):
    found = explain(stopped)
    assert found.headline == (
        "It memorized and generalized in part within 100 steps: 80.0 % of the held-out pairs (step 100, the last alone)"
    )
    moved = "over the last tenth of its steps, on held-out pairs, accuracy between 60 and 80 %"
    assert any("it was still moving" in line and moved in line for line in found.unsaid)


def test_standing_still_is_a_range_and_no_difference_of_end_points(tmp_path):
    """It swings by 40 points, and ends where it began."""
    swings = [0.5, 0.7, 0.3, 0.5]
    accuracy = dict.fromkeys(range(0, 90, 10), 0.5) | dict(zip((90, 93, 96, 100), swings, strict=True))
    metrics = {step: of_accuracies(1.0 * (step > 10), value, step) for step, value in accuracy.items()}
    run = logged(tmp_path / "run", metrics, 100)
    assert any("accuracy between 30 and 70 %" in line for line in explain(run).unsaid)


def test_a_fall_to_the_end_is_no_collapse_before_the_loss_is_large(tmp_path):
    weights = initial_weights(SMALL, 13)
    for name, accuracy, loss, verdict in (("dip", 0.97, 0.2, "grokking"), ("lost", 0.2, 4.0, "collapse")):
        metrics = {0: of_accuracies(0.0, 0.0, 0)}
        metrics |= {step: of_accuracies(1.0, float(step >= 100), step, 0.001) for step in range(10, 200, 5)}
        metrics |= {step: of_accuracies(1.0, accuracy, step, loss) for step in range(200, 221, 5)}
        kept = dict.fromkeys([0, 220], weights)
        with interp.RunWriter.create(tmp_path / name, interp.Task(13), SMALL) as writer:
            for step, row in metrics.items():
                if step in kept:
                    writer.append(step, weights, row)
                else:
                    writer.log(step, row)
        found = explain(interp.open_run(tmp_path / name))
        assert found.numbers["run"]["verdict"] == verdict
        assert f"{100 * accuracy:.1f} % at the end" in found.headline
        [fall] = found.numbers["run"]["falls"]
        assert fall == {"step": 200, "lowest_accuracy": accuracy, "recovered_at": None}


def test_a_plateau_is_no_proof_either(stopped):
    numbers = explain(stopped).numbers
    assert "and never held all but two of the held-out pairs" in told(explain(stopped))
    assert any("plateaus can end" in line for line in unsaid(numbers, setting(last_step=100)))
    moving = setting(last_step=100, late_changes=("loss between 1 and 2 nats",))
    assert any("loss between 1 and 2 nats" in line for line in unsaid(numbers, moving))
    assert any("too few were logged" in line for line in unsaid(numbers, setting(late_changes=None)))
    assert not any("What more steps" in line for line in unsaid(numbers | {"run": {"verdict": "grokking"}}, moving))


def test_a_run_that_did_not_reach_its_end_says_so(tmp_path):
    metrics = {step: of_accuracies(0.1, 0.1, step) for step in (0, 10)}
    run = logged(tmp_path / "run", metrics, 300)
    assert "within 10 steps (of 300)" in explain(run).headline
    assert "Of 300 steps only those up to step 10 are logged" in told(explain(run))


def test_a_run_of_which_only_the_last_line_is_missing_reached_its_end(tmp_path):
    """A kill between a checkpoint and its line: nothing is missing that a reader must know first."""
    run = logged(tmp_path / "run", {step: of_accuracies(0.1, 0.1, step) for step in (0, 10)}, 10)
    lines = (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    cut = interp.open_run(run.path)
    assert not cut.is_complete
    assert "up to step 10 are logged" not in told(explain(cut))


# ---- divergence ------------------------------------------------------------------------------------------------------


def test_the_step_at_which_training_diverged_is_told(tmp_path):
    experiment = interp.Experiment(
        interp.Task(13), SMALL, interp.TrainingConfig(steps=24, lr=1e30, warmup=0, optimizer="sgd", weight_decay=0.0)
    )
    with pytest.raises(interp.InputError, match=r"the loss of step \d+ is not finite") as caught:
        run_experiment(experiment, tmp_path / "run")
    run = interp.open_run(tmp_path / "run")
    assert f"step {run.rows[-1]['step']} is" in str(caught.value)
    assert not run.is_complete
    assert explain(run).headline == f"Training diverged by step {run.rows[-1]['step']}"


def test_a_loss_that_stays_far_above_guessing_is_divergence(tmp_path):
    weights = initial_weights(SMALL, 13)
    losses = {0: 2.6, 10: 90.0, 20: 2.0, 30: 70.0, 40: 4000.0}
    metrics = {step: of_accuracies(0.1, 0.1, step, loss) for step, loss in losses.items()}
    run = written(tmp_path / "run", interp.Task(13), SMALL, dict.fromkeys(losses, weights), metrics=metrics)
    assert setting_of(run, analyze(run, EVIDENCE)).diverged_at == 30
    assert "Training diverged by step 30" in told(explain(run))


def test_weights_too_large_for_their_logits_are_told_without_a_warning(tmp_path):
    grown = {name: 1e12 * weight for name, weight in initial_weights(SMALL, 13).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = written(tmp_path / "run", interp.Task(13), SMALL, {0: initial_weights(SMALL, 13), 10: grown})
        text = told(explain(run))
    assert "gives it unknown" not in text
    assert "gives unknown" not in text
    assert "e+1" in text, "a norm of so many digits is told in two"


def test_numbers_are_short():
    assert [as_number(value) for value in (None, 0.123, 15.2, 117.2, 4321.0, 1.2e7)] == [
        "unknown",
        "0.12",
        "15",
        "117",
        "4,321",
        "1.2e+07",
    ]
    assert [as_norm(value) for value in (0.1, 57.04, 11749477.2)] == ["0.1", "57.0", "1.2e+07"]


# ---- the competition of the circuits ---------------------------------------------------------------------------------


def test_noise_has_no_winner(tmp_path):
    run = written(
        tmp_path / "run",
        interp.Task(23),
        SMALL,
        {0: initial_weights(SMALL, 23)},
        training=interp.TrainingConfig(steps=0),
    )
    found = explain(run)
    assert found.headline == "No training is logged"
    assert "there is nothing to compare" in found.paragraphs[-1]
    assert "the stronger" not in told(found)


def test_a_fall_after_it_knew_its_training_pairs_speaks_against_it(tmp_path):
    """A slingshot: what was known is lost for a while, and that is no part of the usual story."""
    task = interp.Task(23)
    for name, low, expected in (("smooth", 0.95, False), ("fallen", 0.46, True)):
        with interp.RunWriter.create(tmp_path / name, task, SMALL, interp.TrainingConfig(steps=40)) as writer:
            writer.append(0, initial_weights(SMALL, 23))
            for step, train in ((10, 0.2), (20, 1.0), (30, low), (35, low + 0.02)):
                writer.log(step, of_accuracies(train, 0.1, step))
            writer.append(40, initial_weights(SMALL, 23), of_accuracies(1.0, 0.1, 40))
        said = (
            "After it had known its training pairs it knew 46.0 % of them in a fall that began at step 30: no smooth "
            "transition."
        )
        assert (said in explain(interp.open_run(tmp_path / name)).against) == expected


def test_memory_that_is_nowhere_clear_of_its_error_is_not_told_of():
    strength = {"memorizing": -1.1, "generalizing": 12.0}
    text = the_competition(600, strength, no_lead(0.0, None, 12.0), setting())
    assert text.startswith(
        "At no checkpoint is what was memorized clear of chance; at step 600 what held-out pairs have in common gives "
        "the right answer of a training pair 12 logits."
    )


def test_a_highest_value_is_told_once():
    norms = {
        "first_step": 0,
        "first_l2": 10.0,
        "highest_l2": 48.6,
        "highest_l2_at": 600,
        "last_step": 600,
        "last_l2": 48.6,
    }
    text = the_norms({"weight_norms": norms | {"key_share_of_embedding": 0.0}}, setting())
    assert text == "The norm of all weights began at 10.0 and is 48.6 at step 600, as high as ever."
    text = the_competition(600, {"memorizing": 3.9, "generalizing": 0.5}, no_lead(3.9, 600, 0.5), setting())
    assert text.count("3.9") == 1


# ---- task and model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (interp.Task(11, "random", 0.5), "The labels are random: there is no rule to learn"),
        (interp.Task(11, label_noise=0.2, train_fraction=0.5), "the labels trained on, 20 % of which are wrong"),
        (
            interp.Task(11, validation_fraction=0.5),
            "43 pairs are to choose on: they are neither training nor test pairs",
        ),
        (interp.Task(11, split=(1, 2, 11), augmentation="mirror"), "are 3 drawn pairs and 1 mirror of them"),
        (interp.Task(11, "x2+y2", 0.5), "x2+y2 modulo 11 is no addition in other coordinates"),
    ],
)
def test_the_task_is_told(tmp_path, task, expected):
    run = written(tmp_path / "run", task, SMALL, {0: initial_weights(SMALL, 11)})
    assert expected in told(explain(run))


@pytest.mark.parametrize(("operation", "of_logarithms"), [("multiply", True), ("add", False)])
def test_frequencies_of_products_are_those_of_the_logarithm(tmp_path, operation, of_logarithms):
    task, neurons = interp.Task(13, operation, 0.5), circuit_neurons([1, 3], per_frequency=10)
    model = circuit_model(neurons)
    run = written(tmp_path / "run", task, model, {0: circuit_weights(task, model, neurons)})
    assert ("discrete logarithm" in told(explain(run))) == of_logarithms


def symmetricity(model: interp.ModelConfig, seed: int) -> float:
    checkpoint = Checkpoint(0, initial_weights(replace(model, seed=seed), 11), interp.Task(11), model)
    return measure_checkpoint(checkpoint, "clock_pizza").gradient_symmetricity.item()


@pytest.mark.parametrize(
    ("model", "equal"),
    [
        (interp.ModelConfig(family="mlp", d_mlp=12), True),
        (interp.ModelConfig(family="mlp", d_mlp=12, inputs="concatenated"), False),
        (replace(SMALL, attention_rate=0.0), True),
        (replace(SMALL, attention_rate=0.0, prompt="ab"), False),
        (replace(SMALL, attention_rate=0.0, n_layers=2), False),
        (SMALL, False),
    ],
)
def test_gradient_symmetricity_is_no_witness_where_it_is_one_by_construction(model, equal):
    assert model.inputs_enter_as_sum == equal
    assert (symmetricity(model, 1) > 1 - 1e-6) == equal


def test_of_an_mlp_without_embedding_the_input_weights_are_named(tmp_path):
    task, neurons = interp.Task(13, train_fraction=0.5), circuit_neurons([1, 3], per_frequency=10)
    model = circuit_model(neurons, family="mlp")
    text = told(explain(written(tmp_path / "run", task, model, {0: circuit_weights(task, model, neurons)})))
    assert "squared norm of the input weights lies in the key frequencies" in text
    assert "norm of the embedding" not in text
