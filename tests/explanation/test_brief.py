"""What an explanation says first: how far a run came in one headline, the check beside random sets, twelve lines."""

from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.explanation import Explanation
from interp.explanation.circuit_sentences import the_algorithm, the_check, the_disagreement, the_name
from interp.explanation.doubts import against, unsaid
from interp.explanation.explanation import Fact
from interp.explanation.run_facts import Setting
from interp.explanation.run_sentences import headline, the_falls, the_phases, when
from interp.mathematics import grokking

STEPS = np.arange(0, 1001, 20)


def setting(train: np.ndarray, held_out: np.ndarray, *, task: interp.Task | None = None) -> Setting:
    """A run with these curves, on a task with plenty of held-out pairs."""
    return Setting(
        task=task or interp.Task(59),
        model=interp.ModelConfig(),
        learned=grokking.events(STEPS, np.array([train, held_out])),
        planned_steps=1000,
        last_step=1000,
        diverged_at=None,
        accuracy_at=1000,
        accuracy={"train": float(train[-1]), "test": float(held_out[-1]), "held_out": float(held_out[-1])},
        late_changes=(),
        key_frequencies=(),
        key_frequencies_of_step=None,
    )


def of(run: Setting) -> str:
    return headline(run.learned.verdict, run)


MEMORIZED = np.minimum(STEPS / 100, 1)


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (
            0.02,
            "It memorized and did not generalize within 1,000 steps: never held more than 2.0 % of the held-out pairs "
            "(step 600; a guess: 1.7 %)",
        ),
        (0.55, "It memorized and generalized in part within 1,000 steps: 55.0 % of the held-out pairs (step 600)"),
        (0.951, "It memorized and mostly generalized within 1,000 steps: 95.1 % of the held-out pairs (step 600)"),
        (0.984, "It memorized and nearly generalized within 1,000 steps: 98.4 % of the held-out pairs (step 600)"),
        (0.99, "It grokked: 99.0 % of the held-out pairs, from step 600 on"),
    ],
)
def test_the_headline_says_how_far_it_came(highest, expected):
    assert of(setting(MEMORIZED, np.where(STEPS >= 600, highest, 0.01))) == expected


def test_a_network_that_answers_no_held_out_pair_is_told_of_without_a_step():
    assert of(setting(MEMORIZED, np.zeros(len(STEPS)))) == (
        "It memorized and did not generalize within 1,000 steps: never held any of the held-out pairs (a guess: 1.7 %)"
    )


def test_one_lucky_step_is_not_how_far_it_came():
    held_out = np.where(STEPS >= 600, 0.5, 0.01)
    held_out[40] = 0.97
    assert "50.0 % of the held-out pairs (step 600)" in of(setting(MEMORIZED, held_out))


@pytest.mark.parametrize(
    ("train", "highest", "expected"),
    [
        (
            0.03,
            0.02,
            "It learned neither its training pairs (3.0 %) nor the rule (never held more than 2.0 % of the held-",
        ),
        (
            0.7,
            0.45,
            "It learned its training pairs (70.0 %) and the rule (never held more than 45.0 % of the held-out pairs,",
        ),
        (
            0.7,
            0.02,
            "It learned its training pairs (70.0 %) in part only, and not the rule (never held more than 2.0 % of ",
        ),
    ],
)
def test_the_headline_of_a_run_that_learned_little(train, highest, expected):
    found = of(setting(np.full(len(STEPS), train), np.where(STEPS >= 600, highest, 0.01)))
    assert found.startswith(expected)


def test_a_headline_does_not_hide_how_the_run_ends():
    held_out = np.where(STEPS >= 600, 1.0, 0.01)
    held_out[-1] = 0.45
    assert (
        of(setting(MEMORIZED, held_out))
        == "It grokked: 100 % of the held-out pairs, from step 600 on, and 45.0 % at the end"
    )
    held_out[-4:] = 0.2
    assert of(setting(MEMORIZED, held_out)).startswith("It generalized and lost it again: 100 % of the held-out pairs")


def test_a_headline_does_not_take_a_guess_for_a_part_of_the_rule():
    """Modulo 36 every eighth product is 0, and a seventh of all sums modulo 7 is any one."""
    held_out = np.where(STEPS >= 600, 0.14, 0.01)
    for task in (interp.Task(36, "multiply", train_fraction=0.3), interp.Task(7, train_fraction=0.1)):
        told = of(setting(MEMORIZED, held_out, task=task))
        assert "did not generalize" in told, told
        assert f"a guess: {100 * task.guessing_accuracy:.1f} %" in told
    assert "generalized in part" in of(setting(MEMORIZED, held_out))


def test_a_headline_says_since_when_it_had_generalized_and_not_when_it_was_best():
    held_out = np.where(STEPS >= 400, 0.992, 0.01)
    held_out[STEPS >= 800] = 1.0
    assert of(setting(MEMORIZED, held_out)) == "It grokked: 100 % of the held-out pairs, 99 % from step 400 on"


def test_a_headline_says_that_it_hangs_on_one_step():
    held_out = np.where(STEPS >= 1000, 1.0, 0.01)
    assert of(setting(MEMORIZED, held_out)) == "It grokked: 100 % of the held-out pairs, at step 1,000 alone, the last"
    assert "80.0 % of the held-out pairs (step 1,000, the last alone)" in of(setting(MEMORIZED, 0.8 * held_out))


def test_what_fell_before_must_be_seen_to_hold():
    held_out = np.where(STEPS >= 1000, 1.0, 0.01)
    held_out[40:42] = 1.0
    run = setting(MEMORIZED, held_out)
    assert run.learned.verdict == "unknown"
    assert of(run) == (
        "It may have generalized (100 % of the held-out pairs, at step 1,000 alone, the last); whether that holds "
        "cannot be told"
    )
    assert when("unknown", run).endswith("(not at 980; the last that is logged). Whether that holds is not seen.")


def test_a_fall_below_a_level_is_not_rounded_to_it():
    held_out = np.where(STEPS >= 400, 1.0, 0.01)
    held_out[35] = 0.9898
    assert "fell below that once, deepest to 98.9 %" in the_falls(setting(MEMORIZED, held_out))
    held_out[35] = 302 / 315
    assert "deepest to 95.9 %" in the_falls(setting(MEMORIZED, held_out))


def test_a_headline_does_not_hide_that_the_training_pairs_were_lost():
    train = np.where(STEPS >= 100, 1.0, 0.01)
    train[30:] = 0.1
    told = of(setting(train, np.full(len(STEPS), 0.01)))
    assert told.startswith("It memorized and did not generalize")
    assert told.endswith("; 10.0 % of its training pairs at the end")
    assert of(setting(train, np.where(STEPS >= 400, 1.0, 0.01))).endswith("10.0 % of its training pairs at the end")
    train[35:] = 1.0
    assert "training pairs" not in of(setting(train, np.full(len(STEPS), 0.01)))


def test_what_still_knows_nine_in_ten_has_not_lost_it_all():
    held_out = np.where(STEPS >= 400, 1.0, 0.01)
    held_out[-3:] = 0.89
    told = of(setting(MEMORIZED, held_out))
    assert told.startswith("It grokked: 100 %"), told
    assert told.endswith("89.0 % at the end")
    held_out[-3:] = 0.2
    assert of(setting(MEMORIZED, held_out)).startswith("It generalized and lost it again: 100 %")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"generalized_at": None, "generalized_after": None}, "it did not generalize so that it held"),
        ({"memorized_at": 400}, "it is not known to have memorized before it generalized"),
        ({}, "fewer than two signals bend where a phase would end"),
    ],
)
def test_why_no_phases_are_told(changes, why):
    run = {"phases": [], "memorized_at": 100, "generalized_after": 380, "generalized_at": 400} | changes
    assert the_phases(run) == [f"Phases of memorization, circuit formation and cleanup are not told: {why}."]


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        (400, "300 steps later, at least 3.8 times as many"),
        (220, "100 to 140 steps later: less than three times the steps it took to memorize, so no grokking"),
        (60, ": no later, so no grokking"),
    ],
)
def test_when_says_between_which_steps(late, expected):
    run = setting(np.where(STEPS >= 100, 1.0, 0.0), np.where(late <= STEPS, 1.0, 0.01))
    told = when(run.learned.verdict, run)
    assert f"from step {late} on (not at {late - 20})" in told
    assert expected.replace("300 steps", "280 to 320 steps") in told or expected in told


def test_steps_too_far_apart_are_said_to_be():
    learned = grokking.events(np.array([0, 100, 250, 1000]), np.array([[0.0, 1.0, 1.0, 1.0], [0.0, 0.2, 1.0, 1.0]]))
    run = replace(setting(MEMORIZED, MEMORIZED), learned=learned)
    assert learned.verdict == "unknown"
    assert headline("unknown", run) == (
        "It generalized (100 % of the held-out pairs, from step 250 on); whether late or at once cannot be told"
    )
    assert "The delay is between 0 and 250 steps: too coarse to tell grokking from" in when("unknown", run)


def test_curves_that_begin_when_it_knew_its_training_pairs_are_not_called_coarse():
    run = setting(np.ones(len(STEPS)), np.ones(len(STEPS)))
    assert run.learned.verdict == "unknown"
    told = when("unknown", run)
    assert told.endswith(
        "Its curves begin when it knew its training pairs: since when, and how long before, is not known."
    )
    assert "delay" not in told


# ---- the check -------------------------------------------------------------------------------------------------------


def evidence(n_frequencies: int, **changes) -> dict:
    rules = {"embedding": [], "output": [], "neurons": []}
    found = {"n_frequencies": n_frequencies, "judged_by": "held-out pairs", "key_frequencies": []}
    return found | {"key_frequencies_by": rules, "signal_without_size": []} | changes


def checked(without: float, random: list[float] | None, whole: float = 1.0) -> dict:
    targets = {target: {"without": without, "without_random": random} for target in ("embedding", "neurons")}
    ablation = {"key_frequencies": [3, 11], "pairs": "held-out pairs", "whole": whole, "guess": 1 / 59}
    ablation |= {"random_sets": 8, "targets": targets}
    return {
        "ablation": ablation,
        "has_circuit": True,
        "circuit": None,
        "state": "both",
        "key_frequencies": [{"frequency": k, "share": 0.4} for k in (3, 11)],
        **{name: {"held_out": value, "all": value} for name, value in (("loss", 0.1), ("restricted_loss", 0.1))},
        "excluded_loss": {"held_out": 9.0, "all": 9.0},
    }


def test_what_is_left_without_the_circuit_stands_beside_random_sets():
    assert the_check(checked(0.03, [0.97, 1.0])) == (
        "without k = 3, 11 in the embedding it knows 3 % of held-out pairs (a guess 2 %; without as many others, 8 "
        "random sets, 97 % to 100 %), in the neurons 3 % (97 % to 100 %)."
    )
    assert "(whole 46 %; a guess 2 %; without" in the_check(checked(0.03, [0.4, 0.45], whole=0.46))
    assert "too few others to compare" in the_check(checked(0.03, None))
    assert the_check(checked(0.01, [0.01, 0.02], whole=0.03)) == ""  # nothing is known that could be lost
    assert the_check({"ablation": None}) == ""
    assert "in the neurons of the last hidden layer 3 %" in the_check(
        checked(0.03, [0.97, 1.0]), " of the last hidden layer"
    )
    other = checked(0.03, [0.97, 1.0]) | {"key_frequencies": [{"frequency": k, "share": 0.4} for k in (3, 11, 14)]}
    assert the_check(other).startswith("without k = 3, 11 (key in the run’s last circuit, not the set above) in the")


def test_what_a_cut_cannot_show_is_said():
    run = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01))
    numbers = {"run": {"verdict": "grokking"}, "checkpoint": checked(0.03, [0.97, 1.0]) | {"circuit": "clock"}}
    assert any("takes as much away" in sentence for sentence in unsaid(numbers, run))
    numbers["checkpoint"]["ablation"] = None
    assert not any("takes as much away" in sentence for sentence in unsaid(numbers, run))


def test_a_circuit_too_weak_beside_a_memory_to_be_key_is_not_denied():
    run, none = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01)), {"has_circuit": False, "key_frequencies": []}
    summaries = {
        "frequency_evidence": evidence(29),
        "transitions": {"fixed_gap_verdict": "unknown"},
    }
    told = checked(0.03, None) | none | {"state": "generalizing"}
    said = list(against({"verdict": "grokking"}, told, summaries, run))
    assert any("too weak beside its memory to be key" in sentence for sentence in said)


def test_what_the_rules_disagree_on_and_what_has_no_size_is_named():
    run, said = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01)), {}
    for name, changes in {
        "agree": {"key_frequencies": [2], "key_frequencies_by": {"neurons": [2]}},
        "neurons": {"key_frequencies": [2], "key_frequencies_by": {"neurons": [2, 5]}},
        "logits": {"key_frequencies": [2, 5], "key_frequencies_by": {"neurons": [2]}},
        "weak": {"key_frequencies": [2], "key_frequencies_by": {"neurons": [2]}, "signal_without_size": [4]},
        "all": {"key_frequencies": [2], "key_frequencies_by": {"neurons": [2]}, "judged_by": "all pairs"},
    }.items():
        summaries = {"frequency_evidence": evidence(29, **changes), "transitions": {"fixed_gap_verdict": "unknown"}}
        said[name] = list(against({"verdict": "grokking"}, checked(0.03, [0.97, 1.0]), summaries, run))
    new = {name: [sentence for sentence in told if sentence not in said["agree"]] for name, told in said.items()}
    assert new == {
        "agree": [],
        "neurons": ["Some neurons' strongest frequency is not key: k = 5."],
        "logits": ["No neuron's strongest frequency is k = 5, though the logits carry it."],
        "weak": ["The logits carry k = 4 too, of the sum and beyond chance, but hardly need it."],
        "all": [
            "Which frequencies are key is told from all pairs: a memorizer whose answers favor some frequencies can "
            "look like this."
        ],
    }


@pytest.mark.parametrize(("without", "fails"), [(0.03, False), (0.5, True), (1.0, True)])
def test_a_check_that_random_sets_pass_as_well_speaks_against_the_story(without, fails):
    run = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01))
    summaries = {
        "frequency_evidence": evidence(29),
        "transitions": {"fixed_gap_verdict": "unknown"},
    }
    said = list(against({"verdict": "grokking"}, checked(without, [0.5, 1.0]), summaries, run))
    assert any("the check fails" in sentence for sentence in said) == fails


# ---- twelve lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doubts", [0, 1, 3, 40])
@pytest.mark.parametrize("words", [3, 20, 45])
def test_there_are_never_more_than_twelve_lines(words, doubts):
    long, short = " ".join(["word"] * words), "word word"
    brief = ((long, short), (long, short), (long, short), (long,))
    told = str(Explanation({}, long, (Fact("a", "b", "c"),), brief, (), (long,) * doubts, ()))
    assert len(told.splitlines()) <= 12
    assert "Against it:" in told
    if words == 3 and doubts == 3:
        assert "--long" not in told, "there is room for all"
    if doubts == 40 and words > 3:
        assert "--long" in told


# ---- clock or pizza --------------------------------------------------------------------------------------------------


def told_apart(verdict: str, **witnesses: str | None) -> dict:
    """A summary of clock_pizza in which these witnesses say these words, and the others the verdict."""
    names = ("distance_irrelevance", "gradient_symmetricity", "isolated_circles")
    said = dict.fromkeys(names, verdict) | witnesses
    return {
        "verdict": verdict,
        "witnesses": said,
        "disagreeing": [name for name, word in said.items() if word not in (verdict, None)],
        "distance_irrelevance": 0.72,
        "gradient_symmetricity": 0.77,
        "isolated_fit_per_frequency": {"5": {"clock": 0.774, "pizza": 0.998}, "7": {"clock": None, "pizza": None}},
    }


@pytest.mark.parametrize(
    ("clock", "name"),
    [
        (told_apart("pizza"), "a pizza"),
        (told_apart("pizza", gradient_symmetricity=None), "a pizza"),
        (told_apart("neither"), ""),
        (told_apart("clock", isolated_circles="pizza"), "a clock, but a pizza circle by circle"),
        (told_apart("clock", isolated_circles="neither"), "a clock, but not clearly circle by circle"),
        (
            told_apart("clock", distance_irrelevance="pizza", isolated_circles="pizza"),
            "a clock, but a pizza by q and circle by circle",
        ),
        (
            told_apart("clock", gradient_symmetricity="pizza", isolated_circles="neither"),
            "a clock, but a pizza by s_g, but not clearly circle by circle",
        ),
    ],
)
def test_a_name_says_which_witnesses_disagree(clock, name):
    assert the_name(clock) == name
    assert bool(the_disagreement(clock)) == (", but" in name)


def test_a_single_circle_that_is_of_the_other_kind_is_named():
    clock = told_apart("clock")
    assert the_disagreement(clock) == "One at a time, the circle of k = 5 looks like a pizza."
    clock["isolated_fit_per_frequency"]["9"] = {"clock": 0.7, "pizza": 0.95}
    assert the_disagreement(clock) == "One at a time, the circles of k = 5, 9 look like a pizza."
    clock["isolated_fit_per_frequency"] = {"5": {"clock": 0.95, "pizza": 0.97}}
    assert the_disagreement(clock) == ""


def test_the_doubts_name_the_disagreement_of_a_named_circuit():
    run = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01))
    summaries = {
        "frequency_evidence": evidence(29),
        "transitions": {"fixed_gap_verdict": "unknown"},
    }
    for witnesses, expected in (({}, 0), ({"isolated_circles": "pizza"}, 1)):
        found = summaries | {"clock_pizza": told_apart("clock", **witnesses)}
        numbers = checked(0.03, [0.97, 1.0]) | {"circuit": "clock"}
        said = [one for one in against({"verdict": "grokking"}, numbers, found, run) if "of Zhong" in one]
        assert len(said) == expected
    assert "its circles one at a time say a pizza" in said[0]


def test_the_fits_of_the_circles_are_told_where_they_are_known():
    run = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01))
    told = the_algorithm(told_apart("clock"), run)
    assert told.endswith(
        "One circle of the embedding at a time, it fits a clock and a pizza to 77.4 % and 99.8 % at k = 5."
    )
    together = the_algorithm(told_apart("pizza"), replace(run, model=interp.ModelConfig(family="mlp")))
    assert "(distance irrelevance 0.72) and by its circles one at a time it is a pizza: a and b enter alike" in together
    assert "One circle" not in the_algorithm(told_apart("clock") | {"isolated_fit_per_frequency": {}}, run)
