"""Tables that hold no curves of one run, and tables as spreadsheets and loggers write them."""

import numpy as np
import pytest

from interp.errors import InputError
from interp.interchange import curves

STEPS = np.arange(0, 2000, 10)
EARLY, LATE = (STEPS >= 50) * 1.0, (STEPS >= 1000) * 1.0
TWICE = np.repeat(STEPS, 2)


def both(first, second) -> np.ndarray:
    """The rows of two runs, in turn."""
    return np.stack([first, second], axis=1).ravel()


def test_lists_of_several_lengths_are_not_laid_row_on_row():
    with pytest.raises(InputError, match="'train_acc' has 10,000 values and 'test_acc' 100, and there is no column"):
        curves({"train_acc": [0.1] * 10_000, "test_acc": [0.1] * 100})


@pytest.mark.parametrize(
    "whose", [{"run": ["wd=1", "wd=0"] * 200}, {"seed": [0, 1] * 200}, {"weight_decay": [0.0, 1.0] * 200}]
)
def test_several_runs_in_turn_are_no_curve(whose):
    runs = {"step": both(STEPS, STEPS + 5), "train_acc": both(EARLY, EARLY), "test_acc": both(LATE, 0 * LATE)}
    with pytest.raises(InputError, match=r"has 2 values \(.*\): several runs\?"):
        curves(runs | whose)
    one = {name: [values[0]] * 400 for name, values in whose.items()}
    assert curves(runs | one).headline


def test_runs_that_nothing_tells_apart_are_doubted():
    turns = {"step": both(STEPS, STEPS + 5), "train_acc": both(EARLY, EARLY), "test_acc": both(LATE, 0 * LATE)}
    doubts = "Test accuracy fell below 90 % 100 times over 199 logged steps: rows of several runs"
    assert any(sentence.startswith(doubts) for sentence in curves(turns).against)
    fallen = np.where(np.isin(STEPS, STEPS[150:190:8]), 0.2, LATE)
    assert "several runs" not in curves({"step": STEPS, "train_acc": EARLY, "test_acc": fallen}).long


def test_a_name_of_every_row_is_no_run():
    found = curves({"id": range(200), "step": STEPS, "train_acc": EARLY, "test_acc": LATE})
    assert found.numbers["run"]["verdict"] == "grokking"


def test_two_values_at_most_steps_are_no_curve():
    with pytest.raises(InputError, match="'test_acc' has several values at 100 of 200 steps: several runs"):
        curves({"step": TWICE, "train_acc": both(EARLY, EARLY), "test_acc": both(LATE, 0 * LATE)})
    with pytest.raises(InputError, match="or several rows an epoch"):
        curves({"epoch": TWICE, "train_acc": both(EARLY, EARLY), "test_acc": both(LATE, 0 * LATE)})
    same = curves({"step": TWICE, "train_acc": both(EARLY, EARLY), "test_acc": both(LATE, LATE)})
    assert same.numbers["run"]["verdict"] == "grokking"


def test_steps_that_begin_anew_with_every_epoch():
    epoch, step = np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20)
    for name in ("step", "batch"):
        with pytest.raises(InputError, match=f"'{name}' begins anew with every 'epoch': write a column step"):
            curves({"epoch": epoch, name: step, "train_acc": EARLY, "test_acc": LATE})
    goes_on = curves({"epoch": epoch, "step": STEPS, "train_acc": EARLY, "test_acc": LATE})
    assert goes_on.numbers["run"]["generalized_at"] == 1000


def test_a_log_that_goes_back_too_often_is_refused():
    with pytest.raises(InputError, match="and goes back too often for restarts"):
        curves({"step": [*range(40), *range(10)] * 25, "test_acc": np.linspace(0, 1, 1250)})


def test_a_row_for_each_split_is_to_be_pivoted():
    rows = {"step": TWICE, "split": ["train", "test"] * 200, "accuracy": both(EARLY, LATE)}
    with pytest.raises(
        InputError, match=r"'split' has 2 values \('train', 'test'\): a row for each split .* of its own"
    ):
        curves(rows, train_accuracy="accuracy")
    with pytest.raises(InputError, match="a row for each split"):
        curves(rows)


def test_error_rates_and_parts_of_epochs_are_told_for_what_they_are():
    with pytest.raises(InputError, match=r"If 'train_err' is an error rate, give 1 minus it"):
        curves({"step": STEPS, "train_err": 1 - EARLY, "test_err": 1 - LATE})
    with pytest.raises(InputError, match="write one, step, such as epoch times the updates in one, rounded"):
        curves({"epoch": STEPS / 7, "train_acc": EARLY})


@pytest.mark.parametrize(
    "name", ["val_top5_acc", "top_5_test_acc", "test_acc_se", "test_accuracy_error", "test_acc_ema"]
)
def test_what_stands_beside_an_accuracy_is_none(name):
    assert dict(curves({"step": STEPS, "train_acc": EARLY, name: LATE}).recorded.columns) == {
        "train_accuracy": "train_acc"
    }


def test_words_that_a_name_has_more_are_said():
    found = curves({"step": STEPS, "train_acc": EARLY, "unmirrored_test_acc": LATE})
    assert found.recorded.notes == (
        "'unmirrored_test_acc' was taken for the test accuracy, though its name says more (--test-accuracy).",
    )
    assert curves({"step": STEPS, "top1_test_acc": LATE, "weight_norm": 1 + LATE}).recorded.notes == ()


def lines(separator: str, *, decimal: str = ".", thousands: str = "") -> str:
    def row(step: int, train: float, test: float) -> str:
        numbers = (f"{value:.3f}".replace(".", decimal) for value in (train, test))
        return separator.join([f"{step:,}".replace(",", thousands), *numbers])

    names = separator.join(("step", "train_acc", "test_acc"))
    return "\n".join([names, *(row(*one) for one in zip(STEPS.tolist(), EARLY, LATE, strict=True))]) + "\n"


SHEETS = {
    "excel.csv": f"sep=;\n{lines(';')}",
    "decimal.tsv": lines("\t", decimal=","),
    "thousands.tsv": lines("\t", thousands=","),
    "both.csv": lines(";", decimal=",", thousands=","),
    "remarks.csv": lines(",").replace("\n500,", "\n# resumed\n500,"),
    "quoted.csv": lines(",").replace("1000,", '"1,000",').replace("1010,", '"1,010",'),
}


@pytest.mark.parametrize("name", SHEETS)
def test_tables_of_spreadsheets(name, tmp_path):
    (tmp_path / name).write_text(SHEETS[name])
    run = curves(tmp_path / name).numbers["run"]
    assert (run["verdict"], run["memorized_at"], run["generalized_at"]) == ("grokking", 50, 1000)
