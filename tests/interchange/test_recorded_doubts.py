"""What recorded curves leave open, and what the way they were logged gives against a verdict."""

import math

import numpy as np
import pytest

from interp.errors import InputError
from interp.interchange import curves

STEPS = np.arange(0, 20001, 100)
LATE = np.where(STEPS >= 11_800, 1.0, 0.02)
EARLY = np.where(STEPS >= 300, 1.0, 0.02)
EPOCHS = np.arange(60)


def told(**given):
    return curves({"step": STEPS} | given)


def verdict(found) -> str:
    return found.numbers["run"]["verdict"]


# ---- training accuracies below 99 % though all is known --------------------------------------------------------------


def test_a_training_accuracy_with_dropout_never_makes_grokking_comprehension():
    found = told(train_acc=0.97 * EARLY, test_acc=LATE)
    assert verdict(found) == "unknown"
    why = "training accuracy never held 99 %, but 90 % from step 300 on"
    assert found.headline.endswith(why)
    assert found.numbers["run"]["withheld"] == why
    assert "With 90 % in place of 99 % it would be grokking." in found.against


def test_minibatches_that_are_all_right_at_the_end_alone():
    train = 0.985 * EARLY
    train[-1] = 1
    found = told(train_acc=train, test_acc=LATE)
    assert verdict(found) == "unknown"
    assert "too coarse" not in found.long
    assert "no later" not in found.long
    assert "That it knew its training examples was seen at one logged step alone, the last." in found.against


@pytest.mark.parametrize("held_out", [11_000, 13_000])
def test_both_learned_at_the_same_time_stays_comprehension(held_out):
    train = np.where(STEPS >= 12_000, 1.0, 0.5)
    assert verdict(told(train_acc=train, test_acc=np.where(held_out <= STEPS, 1.0, 0.02))) == "comprehension"
    assert verdict(told(train_acc=0.5 * EARLY, test_acc=LATE)) == "comprehension"


# ---- degrees ---------------------------------------------------------------------------------------------------------

DEGREES = {
    "It nearly learned": (0.985 * EARLY, 0.98 * EARLY, None),
    "It mostly learned": (0.97 * EARLY, 0.95 * LATE, None),
    "It memorized and nearly generalized: 98.0 % of the test examples (step 11,800)": (EARLY, 0.98 * LATE, None),
    "It memorized and mostly generalized: 92.0 %": (EARLY, 0.92 * LATE, None),
    "It memorized and generalized in part: 40.0 %": (EARLY, 0.4 * LATE, 97),
    "It memorized: never held more than 40.0 %": (EARLY, 0.4 * LATE, None),
    "It memorized: never held more than 50.0 %": (EARLY, 0.5 * LATE, 2),
    "It learned neither": (0.3 * EARLY, 0.02 * EARLY, None),
    "It learned its training examples (never held more than 70.0 %": (0.7 * EARLY, 0.02 * EARLY, None),
}


@pytest.mark.parametrize("begins", DEGREES)
def test_what_was_nearly_known_is_not_called_nothing(begins):
    train, test, classes = DEGREES[begins]
    found = curves({"step": STEPS, "train_acc": train, "test_acc": test}, classes=classes, accuracies="share")
    assert found.headline.startswith(begins)


def test_training_examples_that_are_lost_again_are_told_of():
    lost = np.where(STEPS < 15_000, EARLY, 0.02)
    assert told(train_acc=lost, test_acc=0.02 * EARLY).headline.endswith("; 2.0 % of its training examples at the end")
    losses = {"train_loss": np.where(lost == 1, 1e-3, 4.7), "test_loss": np.full(len(STEPS), 4.7)}
    assert told(**losses).headline.endswith("; train loss 4.7 at the end")


# ---- how it was logged -----------------------------------------------------------------------------------------------


def test_a_curve_that_has_no_finite_values_any_more():
    diverged = {
        "train_loss": np.where(STEPS < 400, 4.0, math.inf),
        "test_loss": np.where(STEPS < 400, 4.5, math.nan),
    }
    for name, doubt in zip(diverged, told(**diverged).against, strict=False):
        assert doubt.startswith(f"'{name}' has no finite value after step 300, though the log goes on to step 20,000")
    assert told(**diverged).headline.endswith("; no finite values after step 300 (of 20,000)")
    assert "finite" not in told(**diverged, test_acc=LATE).headline
    rarely = np.where(STEPS % 5000 == 0, LATE, np.nan)
    assert "no finite value" not in told(train_acc=EARLY, test_acc=np.where(STEPS < 20_000, rarely, np.nan)).long


def test_per_cent_that_never_passes_one():
    low = {"step": STEPS, "train_acc": np.where(STEPS >= 300, 0.93, 0.885), "test_acc": np.full(len(STEPS), 0.885)}
    assert "Read as shares: the highest accuracy is 0.93 (--accuracies)." in curves(low).recorded.notes
    with pytest.raises(InputError, match="a guess among 113 in per cent: say --accuracies percent"):
        curves(low, classes=113)
    assert curves(low, classes=113, accuracies="percent").recorded.value("train_accuracy").max() == 0.93 / 100


def test_a_loss_that_is_another_by_its_name_stands_for_no_accuracy():
    losses = {"train_mse_loss": np.where(STEPS >= 300, 1e-4, 4.0), "test_mse_loss": np.where(STEPS >= 9000, 1e-4, 4.0)}
    assert told(**losses).numbers["run"]["judged_by"] == {"train": "none", "test": "none"}
    assert any("is no cross-entropy in nats" in note for note in told(**losses).recorded.notes)
    named = curves({"step": STEPS} | losses, loss="cross-entropy")
    assert named.numbers["run"]["judged_by"] == {"train": "loss", "test": "loss"}


def test_a_verdict_that_hangs_on_how_epochs_are_counted():
    """Keras and Lightning log row 0 after one epoch: 1 and 4 are 2 and 5, whose distance is no grokking."""
    near = curves({"epoch": EPOCHS, "train_acc": (EPOCHS >= 1) * 1.0, "test_acc": (EPOCHS >= 4) * 1.0})
    assert verdict(near) == "unknown"
    assert "counted from epoch 1 in place of 0 it would be unknown in place of grokking" in near.headline
    far = curves({"epoch": EPOCHS, "train_acc": (EPOCHS >= 1) * 1.0, "test_acc": (EPOCHS >= 40) * 1.0})
    assert verdict(far) == "grokking"
    assert far.against[0].startswith("'epoch' counts from 0: if its first row was taken after one epoch")
    from_one = curves({"epoch": EPOCHS + 1, "train_acc": (EPOCHS >= 1) * 1.0, "test_acc": (EPOCHS >= 40) * 1.0})
    assert "counts from 0" not in from_one.long


@pytest.mark.parametrize(
    "names", [("_step", "train_acc", "test_acc"), ("Step", "run-1 - train/acc", "run-1 - val/acc")]
)
def test_calls_of_a_logger_are_no_updates(names):
    test = np.where(STEPS >= 1000, 1.0, 0.02)
    values = (STEPS, EARLY, test)
    found = curves(dict(zip(names, values, strict=True)))
    assert found.against[0].startswith(f"Steps are those of '{names[0]}', which counts calls of the logger")
    assert found.numbers["run"]["fixed_gap_verdict"] is None
    assert "fixed gap" not in found.long
    assert "fixed gap" in told(train_acc=EARLY, test_acc=test).long


def test_numbers_of_one_are_in_the_singular():
    one = curves({"step": [0, 1, 2, 3], "train_acc": [0.0, 1, 1, 1], "test_acc": [0.0, 0, 1, 1]})
    assert "seen for 1 step only" in one.long
    assert "1 steps" not in one.long
    hole = curves({"step": [0, 1, None, 3], "train_acc": [0.0, 1, 1, 1]})
    assert "1 number of 'train_acc' without a step was left out." in hole.recorded.notes
    again = curves({"step": [0, 1, 2] * 4, "test_acc": [0.0, 0.1, 0.2] * 4})
    assert any("back to step 0 (3 times) and repeats" in note for note in again.recorded.notes)


def test_float_noise_is_no_per_cent():
    found = told(train_acc=1.00001 * EARLY, test_acc=LATE)
    assert verdict(found) == "grokking"
    assert found.recorded.value("train_accuracy").max() == 1
