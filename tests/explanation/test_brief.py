"""What an explanation says first: how far a run came in one headline, the check beside random sets, twelve lines."""

from dataclasses import replace

import numpy as np
import pytest

import interp
from interp.explanation import Explanation
from interp.explanation.circuit_sentences import the_check
from interp.explanation.doubts import against
from interp.explanation.explanation import Fact
from interp.explanation.run_facts import Setting
from interp.explanation.run_sentences import headline, when
from interp.mathematics import grokking

STEPS = np.arange(0, 1001, 20)


def setting(train: np.ndarray, held_out: np.ndarray, *, task: interp.Task | None = None) -> Setting:
    """A run with these curves, on a task with plenty of held-out pairs."""
    return Setting(
        task=task or interp.Task(59),
        model=interp.ModelConfig(),
        learned=grokking.events(STEPS, np.array([train, held_out])),
        planned_steps=1000,
        is_complete=True,
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
            "It memorized and did not generalize within 1,000 steps: at most 2.0 % of the held-out pairs (step 600)",
        ),
        (0.55, "It memorized and generalized in part within 1,000 steps: 55.0 % of the held-out pairs (step 600)"),
        (0.951, "It memorized and mostly generalized within 1,000 steps: 95.1 % of the held-out pairs (step 600)"),
        (0.984, "It memorized and nearly generalized within 1,000 steps: 98.4 % of the held-out pairs (step 600)"),
        (0.99, "It grokked: 99.0 % of the held-out pairs, from step 600 on"),
    ],
)
def test_the_headline_says_how_far_it_came(highest, expected):
    assert of(setting(MEMORIZED, np.where(STEPS >= 600, highest, 0.01))) == expected


def test_one_lucky_step_is_not_how_far_it_came():
    held_out = np.where(STEPS >= 600, 0.5, 0.01)
    held_out[40] = 0.97
    assert "50.0 % of the held-out pairs (step 600)" in of(setting(MEMORIZED, held_out))


@pytest.mark.parametrize(
    ("train", "highest", "expected"),
    [
        (0.03, 0.02, "It learned neither its training pairs (3.0 %) nor the rule (at most 2.0 % of the held-out pairs"),
        (
            0.7,
            0.45,
            "It learned its training pairs (70.0 %) and the rule (at most 45.0 % of the held-out pairs, step 600)",
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


# ---- the check -------------------------------------------------------------------------------------------------------


def checked(without: float, random: list[float] | None, whole: float = 1.0) -> dict:
    targets = {target: {"without": without, "without_random": random} for target in ("embedding", "neurons")}
    ablation = {"key_frequencies": [3, 11], "pairs": "held-out pairs", "whole": whole, "targets": targets}
    return {
        "ablation": ablation,
        "has_circuit": True,
        "state": "both",
        "key_frequencies": [{"frequency": k, "share": 0.4} for k in (3, 11)],
        **{name: {"held_out": value, "all": value} for name, value in (("loss", 0.1), ("restricted_loss", 0.1))},
        "excluded_loss": {"held_out": 9.0, "all": 9.0},
    }


def test_what_is_left_without_the_circuit_stands_beside_random_sets():
    assert the_check(checked(0.03, [0.97, 1.0])) == (
        "without k = 3, 11 in the embedding it knows 3.0 % of held-out pairs (without as many random others 97.0 % to "
        "100 %), in the neurons 3.0 % (97.0 % to 100 %)."
    )
    assert "whole 46.0 %" in the_check(checked(0.03, [0.4, 0.45], whole=0.46))
    assert "too few others to compare" in the_check(checked(0.03, None))
    assert the_check(checked(0.01, [0.01, 0.02], whole=0.03)) == ""  # nothing is known that could be lost
    assert the_check({"ablation": None}) == ""


@pytest.mark.parametrize(("without", "fails"), [(0.03, False), (0.5, True), (1.0, True)])
def test_a_check_that_random_sets_pass_as_well_speaks_against_the_story(without, fails):
    run = setting(MEMORIZED, np.where(STEPS >= 600, 1.0, 0.01))
    summaries = {
        "embedding_spectrum": {"n_frequencies": 29, "only_by_neurons": [], "only_by_weights_and_logits": []},
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
