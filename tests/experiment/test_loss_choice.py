"""Which losses a configuration can name, and that naming none changes no experiment."""

from dataclasses import replace
from typing import Any

import pytest

from interp.errors import InputError
from interp.experiment import Experiment, TrainingConfig


def test_an_experiment_that_names_no_loss_keeps_its_hash() -> None:
    plain = Experiment()
    usual = {"loss": "cross-entropy", "loss_precision": "float64", "label_smoothing": 0.0, "zero_sum": False}
    assert replace(plain, training=replace(plain.training, **usual)).hash == plain.hash == "909d76fd9682baa3"
    for name, value in {
        "loss": "stablemax",
        "loss_precision": "float32",
        "label_smoothing": 0.1,
        "zero_sum": True,
    }.items():
        assert replace(plain, training=replace(plain.training, **{name: value})).hash != plain.hash


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "mse"}, "unknown training.loss 'mse'"),
        ({"loss_precision": "bfloat16"}, "training.loss-precision is float64 or float32, got 'bfloat16'"),
        ({"label_smoothing": 1.0}, "training.label-smoothing"),
        ({"label_smoothing": -0.1}, "training.label-smoothing"),
        ({"zero_sum": 1}, "training.zero-sum must be true or false"),
        ({"loss": "squared-error", "loss_precision": "float32"}, "leave it at float64, or choose training.loss"),
        ({"loss": "squared-error", "label_smoothing": 0.1}, "leave it at 0, or choose training.loss"),
        ({"loss": "squared-error", "zero_sum": True}, "leave it out, or choose training.loss cross-entropy"),
        ({"loss": "stablemax", "zero_sum": True}, "leave it out, or choose training.loss cross-entropy"),
    ],
)
def test_a_loss_that_makes_no_sense_is_refused_with_what_to_do(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig(**fields)
