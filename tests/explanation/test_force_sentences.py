"""What is said of why: each wording for what the forces were, and nothing where they are not known."""

import copy
from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.experiment import GradientFilter
from interp.explanation import explain
from interp.explanation.force_sentences import the_forces, why
from interp.explanation.run_facts import Setting
from interp.mathematics import grokking
from interp.sweeps import run_experiment

RESTS = {
    "step": 3000,
    "known_from": 100,
    "named": [3, 11],
    "named_clearly": [3, 11],
    "strengths": {"circuit": [7.05, 14.8], "memorizing": [15.2, 15.4]},
    "carried_losses": [1.77, 2.44],
    "has_decay": True,
    "rest": {"from": 150, "to": 490},
    "plateau": {"from": 150, "to": 490},
    "growth_ratio": {"circuit": 1.0734, "memorizing": 0.9998},
    "growth_ratio_interval_95": {"circuit": [1.068, 1.078], "memorizing": [0.996, 1.004]},
    "growth_ratio_error": {"circuit": 0.0001, "memorizing": 0.0002},
    "degree": {"circuit": 5.93, "memorizing": 6.04},
    "worn_from": 500,
    "carried_from": 600,
    "pushed_through": {"embed.W_E": 0.18, "unembed.W_U": 0.16, "blocks.0.mlp.b_in": 0.001},
    "frequencies": [],
    "intervals": 38,
    "refused_intervals": 0,
    "spacing_that_would_do": None,
}


STEPS = np.arange(0, 1001, 20)
SETTING = Setting(
    task=interp.Task(43),
    model=interp.ModelConfig(),
    learned=grokking.events(STEPS, np.array([np.minimum(STEPS / 100, 1), np.minimum(STEPS / 800, 1)])),
    planned_steps=1000,
    last_step=1000,
    diverged_at=None,
    accuracy_at=1000,
    accuracy={"train": 1.0, "test": 1.0, "held_out": 1.0},
    late_changes=(),
    key_frequencies=(3, 7, 11),
    key_frequencies_of_step=1000,
)


def told(**changes) -> str:
    return " ".join(why(copy.deepcopy(RESTS) | changes, SETTING)[:1])


def test_of_a_run_that_rests_and_then_loses_its_memory():
    assert told() == (
        "from step 150 to 490 loss and decay balance on memory (15 → 15 logits), while the loss pushes the circuit of "
        "k = 3, 11 up 1.07 times (95 %: 1.07 to 1.08) as hard as decay pulls it down (7.0 → 15 logits); from step 500 "
        "on decay wears memory down faster than the loss renews it. From step 600 on the generalizing part of the "
        "logits alone has the lower training loss, there 1.8 (memory alone 2.4, a guess 3.8)."
    )
    fuller, shorter, shortest = why(RESTS, SETTING)
    assert fuller.startswith(shorter)
    assert shortest == (
        "from step 150 to 490 loss and decay balance on memory while k = 3, 11 is pushed up 1.07 times (95 %: 1.07 to "
        "1.08) as hard as pulled down; from 500 on memory is worn down."
    )


def test_no_balance_is_claimed_of_what_its_interval_says_is_none():
    """The published setup: r = 0.9917, to within 1 % of 1, and 0.9914 to 0.9921."""
    ratios, intervals = (
        {"circuit": 1.07, "memorizing": 0.9917},
        {"circuit": [1.06, 1.08], "memorizing": [0.9914, 0.9921]},
    )
    text = told(growth_ratio=ratios, growth_ratio_interval_95=intervals)
    assert "balance" not in text
    assert "the loss gives memory 0.992 times (95 %: 0.991 to 0.992) what decay takes (15 → 15 logits)" in text


def test_a_run_whose_rule_never_carries_is_told_all_the_same():
    nothing = {"carried_from": None, "carried_losses": None, "worn_from": None}
    assert told(**nothing).endswith("as hard as decay pulls it down (7.0 → 15 logits).")
    assert the_forces(copy.deepcopy(RESTS) | nothing, SETTING)


def test_of_a_named_set_only_what_stood_out_is_called_the_circuit():
    assert "the circuit of k = 11 (and 1 fainter) up" in told(named_clearly=[11])
    assert "the circuit of k = 3, 11 (none clear when named) up" in told(named_clearly=[])
    assert "key in the end it does not have k = 7." in the_forces(RESTS, SETTING)


def test_a_memory_that_only_rests_is_not_said_to_be_worn_down():
    assert "wears" not in told(worn_from=None)


@pytest.mark.parametrize(
    ("ratio", "interval", "expected"),
    [
        (
            1.0253,
            [1.023, 1.027],
            "the loss gives memory 1.025 times (95 %: 1.023 to 1.027) what decay takes (15 → 15 logits), while",
        ),
        (1.0012, [0.99, 1.012], "loss and decay balance on memory (15 → 15 logits), while"),
    ],
)
def test_a_memory_that_never_rests_is_told_by_its_ratio(ratio, interval, expected):
    ratios = {"circuit": 1.05, "memorizing": ratio}
    intervals = {"circuit": [1.02, 1.08], "memorizing": interval}
    changes = {"growth_ratio": ratios, "growth_ratio_interval_95": intervals}
    assert expected in told(rest=None, worn_from=None, **changes)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ([1.02, 1.08], "while the loss pushes the circuit of k = 3, 11 up 1.05 times"),
        ([0.95, 1.15], "is not seen to grow: the loss pushes it up 1.05 times"),
        ([0.91, 0.99], "shrinks: the loss pushes it up 1.05 times"),
    ],
)
def test_a_circuit_is_only_said_to_grow_where_its_interval_says_so(interval, expected):
    intervals = {"circuit": interval, "memorizing": [0.99, 1.01]}
    assert expected in told(growth_ratio={"circuit": 1.05, "memorizing": 1.0}, growth_ratio_interval_95=intervals)


NOTHING = {"circuit": None, "memorizing": None}
NO_INTERVALS = {"circuit": [None, None], "memorizing": [None, None]}
UNKNOWN = {
    "rest": None,
    "worn_from": None,
    "growth_ratio": NOTHING,
    "growth_ratio_interval_95": NO_INTERVALS,
    "growth_ratio_error": NOTHING,
}


def test_without_weight_decay_nothing_is_worn_down():
    assert told(has_decay=False, **UNKNOWN) == "there is no weight decay, so nothing wears memory down."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"has_decay": None}, "cannot be told apart: learning rate and weight decay are not known"),
        ({"refused_intervals": 30, "spacing_that_would_do": 5}, "checkpoints every 5 steps would do"),
        ({"known_from": None}, "at no checkpoint are the training pairs known"),
        ({}, "Nothing that was memorized is clear enough"),
    ],
)
def test_where_nothing_is_known_it_says_why(changes, expected):
    forces = copy.deepcopy(RESTS) | UNKNOWN | changes
    assert why(forces, SETTING) == ()
    assert expected in the_forces(forces, SETTING)


def test_a_frequency_that_died_is_told_with_what_took_it_down():
    life = {"frequency": 10, "born": 70, "peak": 400, "height": 4.0, "died": 900, "rise": [50.0, -46.0]}
    for fall, expected in (
        ([12.0, -16.0], "decay took 16.0 logits, and the loss gave only 12.0"),
        ([-3.0, -1.0], "loss (-3.0 logits) and decay (-1.0) both took it down"),
        (None, "is gone by step 900."),
    ):
        assert expected in the_forces(copy.deepcopy(RESTS) | {"frequencies": [life | {"fall": fall}]}, SETTING)


def test_the_reference_run_says_why_it_grokked():
    explanation = explain(interp.open_run(interp.reference_path()))
    text, in_full = (" ".join(said.split()) for said in (str(explanation), explanation.long))
    assert "Why: from step 200 to 400 loss and decay balance on memory while k = 10, 11, 12 (and 1 fainter)" in text
    assert "is pushed up 1.07 times (95 %: 1.06 to 1.07) as hard as pulled down; from 400 on" in text
    assert "From step 600 on the generalizing part of the logits alone has the lower training loss" in in_full
    assert explanation.numbers["run"]["forces"]["carried_from"] == 600


def test_a_memorizing_run_is_explained(tmp_path):
    """Random labels: nothing ever carries, and memory is pushed up all the while."""
    task = interp.Task(13, "random", train_fraction=0.5)
    model = interp.ModelConfig(d_model=32, n_heads=2, d_mlp=64)
    training = interp.TrainingConfig(steps=300, lr=5e-3, checkpoint_every=20)
    run = run_experiment(interp.Experiment(task, model, training), tmp_path / "run")
    explanation = explain(run)
    assert explanation.numbers["run"]["forces"]["carried_from"] is None
    assert "what decay takes" in " ".join(str(explanation).split())
    assert explanation.long


def test_of_a_filtered_run_it_says_what_the_loss_went_through():
    filtered = replace(SETTING, gradient_filter=GradientFilter(kind="ema").in_words)
    bare = why(copy.deepcopy(RESTS), SETTING)
    assert why(copy.deepcopy(RESTS), filtered) == tuple(f"through a gradient filter, {one}" for one in bare)
    every = the_forces(copy.deepcopy(RESTS), filtered)
    assert (
        "Gradients are filtered (ema, strength 2, memory 0.98): what is told of the loss is what the optimizer" in every
    )
    assert "filter" not in the_forces(copy.deepcopy(RESTS), SETTING)
