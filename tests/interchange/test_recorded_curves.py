"""Learning curves without checkpoints: closed-form curves for each verdict, what may not change it, and the shapes of
file in which people have them."""

import json
import math

import numpy as np
import pytest

from interp.errors import InputError
from interp.interchange import curves
from interp.interchange.recorded.ordering import in_order

STEPS = np.arange(0, 4000, 20)
P = 97


def rising(at: int, low: float = 0.01) -> np.ndarray:
    """An accuracy that is complete from a step on."""
    return np.where(at <= STEPS, 1.0, low)


def falling(at: int, guess: float = math.log(P)) -> np.ndarray:
    """A cross-entropy that is known from a step on."""
    return np.where(at <= STEPS, 1e-4, guess)


LOST = np.where((STEPS >= 1000) & (STEPS < 3000), 1.0, 0.02)
VERDICTS = {
    "grokking": (rising(100), rising(2000)),
    "comprehension": (rising(1000), rising(1200)),
    "memorization": (rising(100), rising(9999, 0.3)),
    "confusion": (rising(9999, 0.4), rising(9999, 0.3)),
    "collapse": (rising(100), LOST),
    "unknown": (rising(0), rising(2000)),
}


def told(**given):
    named = {"step": STEPS} | given
    return curves(named)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_closed_form_curves_have_their_verdict(verdict):
    train, test = VERDICTS[verdict]
    found = told(train_acc=train, test_acc=test)
    assert found.numbers["run"]["verdict"] == verdict
    assert found.headline
    assert all("pairs" not in sentence for sentence in found.paragraphs[:-1])


def test_steps_are_those_of_the_closed_form():
    run = told(train_acc=rising(100), test_acc=rising(2000)).numbers["run"]
    assert (run["memorized_after"], run["memorized_at"]) == (80, 100)
    assert (run["generalized_after"], run["generalized_at"]) == (1980, 2000)
    assert run["delay"] == [1880, 1920]
    assert [(stage["name"], stage["end"]) for stage in run["stages"]] == [
        ("memorizing", 100),
        ("memorized", 2000),
        ("generalized", 3980),
    ]


@pytest.mark.parametrize("verdict", ["grokking", "comprehension", "memorization", "confusion"])
def test_losses_alone_tell_what_they_can(verdict):
    late = {"grokking": 2000, "comprehension": 1200, "memorization": 9999, "confusion": 9999}[verdict]
    early = {"grokking": 100, "comprehension": 1000, "memorization": 100, "confusion": 9999}[verdict]
    found = told(train_loss=falling(early), val_loss=falling(late))
    assert found.numbers["run"]["verdict"] == verdict
    assert found.numbers["run"]["judged_by"] == {"train": "loss", "test": "loss"}
    assert any("No accuracy on train and test examples was recorded" in sentence for sentence in found.against)
    assert "99 %" not in found.headline


def test_a_loss_in_between_decides_nothing():
    found = told(train_loss=falling(100), test_loss=np.where(STEPS >= 2000, 0.4, 5.0))
    assert found.numbers["run"]["verdict"] == "unknown"
    assert "cannot decide" in found.headline


def test_a_squared_error_stands_for_no_accuracy():
    """It begins at 1/p and falls: by the scale of a cross-entropy it would be known from the first step on."""
    squared = {"train_loss": np.where(STEPS >= 100, 1e-5, 1 / P), "test_loss": np.where(STEPS >= 2000, 1e-5, 1 / P)}
    assert told(**squared).numbers["run"]["verdict"] == "unknown"
    assert curves({"step": STEPS} | squared, loss="other").numbers["run"]["judged_by"]["train"] == "none"
    both = told(**squared, train_acc=rising(100), test_acc=rising(2000))
    assert both.numbers["run"]["verdict"] == "grokking"
    assert both.numbers["run"]["generalized_after"] == 1980


def test_where_an_accuracy_was_recorded_no_loss_speaks_for_it():
    """Accuracies logged rarely, losses densely: the interval is that of the accuracies."""
    rarely = np.where(STEPS % 500 == 0, rising(1600), np.nan)
    run = told(train_acc=rising(100), test_acc=rarely, test_loss=falling(1600)).numbers["run"]
    assert (run["generalized_after"], run["generalized_at"]) == (1500, 2000)


# ---- what may not matter ---------------------------------------------------------------------------------------------


def numbers(found) -> dict:
    return {name: value for name, value in found.numbers["run"].items() if name != "fixed_gap_verdict"}


def test_the_order_of_rows_and_columns_does_not_matter():
    train, test = VERDICTS["grokking"]
    order = np.random.default_rng(0).permutation(len(STEPS))
    shuffled = curves({"test_acc": test[order], "step": STEPS[order], "train_acc": train[order]})
    assert numbers(shuffled) == numbers(told(train_acc=train, test_acc=test))
    assert "sorted" in " ".join(shuffled.recorded.notes)


def test_per_cent_and_shares_say_the_same():
    train, test = VERDICTS["grokking"]
    percent = told(train_acc=100 * train, test_acc=100 * test)
    assert numbers(percent) == numbers(told(train_acc=train, test_acc=test))
    assert "Read as per cent: train accuracy and test accuracy." in percent.recorded.notes
    signs = curves({"step": STEPS, "train_acc": [f"{100 * v:g} %" for v in train], "test_acc": test * 100})
    assert numbers(signs) == numbers(percent)


def test_units_that_contradict_each_other_are_asked_for():
    mixed = {"step": STEPS, "train_acc": 100 * rising(100), "test_acc": rising(2000)}
    with pytest.raises(InputError, match=r"train accuracy goes to 100 and test accuracy to 1: .*--accuracies each"):
        curves(mixed)
    assert curves(mixed, accuracies="each").numbers["run"]["verdict"] == "grokking"
    assert curves(mixed, accuracies="percent").numbers["run"]["verdict"] == "memorization"


def test_scaled_steps_scale_the_answer():
    train, test = VERDICTS["grokking"]
    scaled = curves({"step": 7 * STEPS, "train_acc": train, "test_acc": test}).numbers["run"]
    assert (scaled["memorized_at"], scaled["generalized_at"]) == (700, 14000)
    by_epoch = curves({"epoch": STEPS, "train_acc": train, "test_acc": test})
    assert "from epoch 2,000 on" in by_epoch.headline
    assert by_epoch.numbers["run"]["fixed_gap_verdict"] is None


def test_holes_and_rows_of_one_split_each_are_merged():
    """As Lightning's metrics.csv has them: every row has one split, the other is missing."""
    train, test = VERDICTS["grokking"]
    steps, of_train, of_test = np.repeat(STEPS, 2), np.full(400, np.nan), np.full(400, np.nan)
    of_train[::2], of_test[1::2] = train, test
    merged = curves({"step": steps, "train_acc": of_train, "val_acc": of_test})
    assert numbers(merged) == numbers(told(train_acc=train, test_acc=test))
    assert merged.recorded.notes == ()


def test_of_a_restart_the_later_pass_counts():
    first, later = np.arange(0, 3000, 20), np.arange(1000, 4000, 20)
    steps = np.concatenate([first, later])
    values = np.concatenate([np.where(first >= 1500, 1.0, 0.0), np.where(later >= 3500, 1.0, 0.0)])
    known = curves({"step": steps, "train_acc": (steps >= 100) * 1.0, "test_acc": values})
    assert known.numbers["run"]["generalized_at"] == 3500
    assert "taken for a restart" in " ".join(known.recorded.notes)


def test_an_earlier_pass_leaves_nothing_behind_where_it_went_further():
    ordered = in_order(np.array([0.0, 1, 2, 3, 4, 1, 2]), np.arange(7.0))
    assert ordered.steps.tolist() == [0, 1, 2]
    assert ordered.values.tolist() == [0, 5, 6]
    assert ordered.undone == 4


def test_without_steps_rows_are_counted():
    train, test = VERDICTS["grokking"]
    found = curves({"train_acc": train, "test_acc": test}, every=20)
    assert found.numbers["run"]["generalized_at"] == 2000
    assert "There is no column of steps" in found.recorded.notes[0]


def test_a_second_signal_ends_phases():
    """A test loss and a norm that bend at the same steps, and the same loss without the norm."""
    loss = np.exp(np.interp(STEPS, [0, 100, 1500, 2500, 4000], [1.5, 2, 1.9, -9, -9.2]))
    norm = np.interp(STEPS, [0, 100, 1500, 2500, 4000], [20, 50, 49, 25, 24.5])
    given = {"train_acc": rising(100), "test_acc": rising(2500), "test_loss": loss}
    phases = told(**given, weight_norm=norm).numbers["run"]["phases"]
    ends = [phase["end"] for phase in phases]
    assert ends[1] == pytest.approx(1500, abs=150)
    assert [phase["end"] for phase in told(**given).numbers["run"]["phases"]] == [None] * 3


def test_falls_are_listed():
    test = rising(1000).copy()
    test[120:122] = 0.7
    found = told(train_acc=rising(100), test_acc=test)
    assert list(found.episodes) == [
        {"split": "test", "step": 2400, "lowest_accuracy": 0.7, "recovered_at": 2440},
    ]


# ---- files -----------------------------------------------------------------------------------------------------------

TRAIN, TEST = VERDICTS["grokking"]
LOSSES = np.where(STEPS >= 100, 0.001, 4.6)


def separated(*names: str, separator: str = ",") -> str:
    rows = zip(STEPS, TRAIN, TEST, LOSSES, strict=True)
    return "\n".join([separator.join(names), *(separator.join(map(str, row)) for row in rows)]) + "\n"


FILES = {
    "plain.csv": separated("step", "train_acc", "test_acc", "train_loss"),
    "words.tsv": separated("Step", "Train Accuracy", "Validation Accuracy", "Loss", separator="\t"),
    "european.csv": separated("iteration", "trainAcc", "valAcc", "loss", separator=";").replace(".", ","),
    "wandb.csv": separated("Step", "brisk-1 - train/acc", "brisk-1 - val/acc", "brisk-1 - train/loss"),
    "spaces.txt": separated("epoch", "train_accuracy", "eval_accuracy", "nll_train", separator=" "),
    "columns.json": json.dumps(
        {"config": {"lr": 1e-3}, "steps": STEPS.tolist(), "train": {"acc": TRAIN.tolist()}, "test_accs": TEST.tolist()}
    ),
    "rows.json": json.dumps(
        [
            {"step": int(s), "train": {"accuracy": a}, "val": {"accuracy": b}}
            for s, a, b in zip(STEPS, TRAIN, TEST, strict=True)
        ]
    ),
    "rows.jsonl": "".join(
        json.dumps({"_step": i, "epoch": int(s), "accuracy": a, "val_accuracy": b}) + "\n"
        for i, (s, a, b) in enumerate(zip(STEPS, TRAIN, TEST, strict=True))
    )
    + '{"_step": 20',
    "trainer_state.json": json.dumps(
        {
            "best_metric": None,
            "log_history": [
                *(
                    {"loss": x, "accuracy": a, "step": int(s), "epoch": s / 7}
                    for s, x, a in zip(STEPS, LOSSES, TRAIN, strict=True)
                ),
                *({"eval_loss": 1.0, "eval_accuracy": b, "step": int(s)} for s, b in zip(STEPS, TEST, strict=True)),
                {"train_loss": 0.2, "train_runtime": 8.0, "step": 3980},
            ],
        }
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_as_people_have_them(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    run = curves(tmp_path / name).numbers["run"]
    assert (run["verdict"], run["memorized_at"], run["generalized_at"]) == ("grokking", 100, 2000)


def test_arrays_and_one_curve_a_file(tmp_path):
    np.savez(tmp_path / "curves.npz", steps=STEPS, train_acc=TRAIN, test_acc=TEST, weights=np.zeros((3, 3)))
    whole = curves(tmp_path / "curves.npz")
    for tag, values in (("train_accuracy", TRAIN), ("test_accuracy", TEST)):
        rows = "\n".join(f"{1.6e9 + step},{step},{value}" for step, value in zip(STEPS, values, strict=True))
        (tmp_path / f"run-tag-{tag}.csv").write_text(f"Wall time,Step,Value\n{rows}\n")
    apart = curves([tmp_path / "run-tag-train_accuracy.csv", tmp_path / "run-tag-test_accuracy.csv"])
    assert numbers(apart) == numbers(whole) == numbers(told(train_acc=TRAIN, test_acc=TEST))


def test_twelve_lines_say_that_there_are_notes():
    """However many notes there are on how a file was read, no sentence is cut off."""
    names = ("train_acc", "test_acc", "unmirrored_test_acc", "train_loss", "test_loss", "mean_squared_test_loss")
    values = (100 * TRAIN, 100 * TEST, TEST, LOSSES, LOSSES, LOSSES)
    found = curves(dict(zip(names, values, strict=True)), every=20)
    assert len(found.recorded.notes) >= 3
    assert len(str(found).splitlines()) <= 12
    assert "notes on how (--long)" in str(found)
    assert all(note.split()[0] in found.long for note in found.recorded.notes)


def test_what_is_not_the_curve_is_left_out():
    """W&B's lowest and highest, a gradient's norm, a best so far; and of a last single number of training the many."""
    found = told(train_acc=TRAIN, test_acc=TEST, test_acc__MAX=TEST, best_test_acc=rising(100), train_grad_norm=TRAIN)
    assert dict(found.recorded.columns) == {"train_accuracy": "train_acc", "test_accuracy": "test_acc"}
