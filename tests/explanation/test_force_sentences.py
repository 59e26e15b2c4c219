"""What is said of why: each wording for what the forces were, and nothing where they are not known."""

import copy

import pytest

import interp
from interp.explanation import explain
from interp.explanation.force_sentences import the_forces, why

RESTS = {
    "step": 3000,
    "known_from": 100,
    "named": [3, 11],
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


def told(**changes) -> str:
    return " ".join(why(copy.deepcopy(RESTS) | changes)[:1])


def test_of_a_run_that_rests_and_then_loses_its_memory():
    assert told() == (
        "from step 150 to 490 loss and decay balance on memory, to 1 %, while the loss pushes the circuit of k = 3, 11 "
        "up 1.07 times (95 %: 1.07 to 1.08) as hard as decay pulls it down; from step 500 on decay wears memory down "
        "faster than the loss renews it. From step 600 on what it generalized answers the training pairs better."
    )
    fuller, shorter, shortest = why(RESTS)
    assert fuller.startswith(shorter)
    assert shortest == (
        "from step 150 to 490 loss and decay balance on memory to 1 % while k = 3, 11 is pushed up 1.07 times (95 %: "
        "1.07 to 1.08) as hard as pulled down; from 500 on memory is worn down."
    )


def test_a_memory_that_only_rests_is_not_said_to_be_worn_down():
    assert "wears" not in told(worn_from=None)


@pytest.mark.parametrize(
    ("ratio", "interval", "expected"),
    [
        (1.0253, [1.023, 1.027], "the loss gives memory 1.025 times (95 %: 1.023 to 1.027) what decay takes, while"),
        (1.0012, [0.99, 1.012], "the loss gives memory 1.001 times (95 %: 0.990 to 1.012) what decay takes, while"),
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
    assert why(forces) == ()
    assert expected in the_forces(forces)


def test_a_frequency_that_died_is_told_with_what_took_it_down():
    life = {"frequency": 10, "born": 70, "peak": 400, "height": 4.0, "died": 900, "rise": [50.0, -46.0]}
    for fall, expected in (
        ([12.0, -16.0], "decay took 16.0 logits, and the loss gave only 12.0"),
        ([-3.0, -1.0], "loss (-3.0 logits) and decay (-1.0) both took it down"),
        (None, "is gone by step 900."),
    ):
        assert expected in the_forces(copy.deepcopy(RESTS) | {"frequencies": [life | {"fall": fall}]})


def test_no_one_tensor_is_named_where_all_carry_as_much():
    assert "No one matrix carried it: 2 had 16 % to 18 % each" in the_forces(RESTS)
    uneven = copy.deepcopy(RESTS) | {"pushed_through": {"unembed.W_U": 0.8, "embed.W_E": 0.2}}
    assert "went through unembed.W_U 80 %, embed.W_E 20 % first of all" in the_forces(uneven)


def test_the_reference_run_says_why_it_grokked():
    explanation = explain(interp.open_run(interp.reference_path()))
    text, in_full = (" ".join(said.split()) for said in (str(explanation), explanation.long))
    assert "Why: from step 185 to 500 loss and decay balance on memory to 1 % while k = 3, 10, 11, 12 is pushed" in text
    assert "up 1.07 times (95 %: 1.06 to 1.08) as hard as pulled down; from 500 on memory is worn down." in text
    assert "From step 600 on what it generalized answers the training pairs better." in in_full
    assert explanation.numbers["run"]["forces"]["carried_from"] == 600
