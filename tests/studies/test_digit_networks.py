"""What studies on digits share: one run of a grid, and what is read of it."""

import math

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.models import initial_weights
from interp.runs import Run
from interp.studies.digit_networks import (
    brier,
    digit_labels,
    digit_probabilities,
    digit_run,
    digit_scores,
)
from interp.sweeps import run_grid
from interp.training import group_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    one = digit_run(6, 60, 0.2, draw=1, seed=0, steps=40, checkpoint_log=4)
    return run_grid(tmp_path_factory.mktemp("digits"), [one], processes=1)[one.name]


def test_it_is_the_torch_network_and_the_adam_that_it_says(run: Run) -> None:
    """The same first weights, trained here by torch alone, end with the same answers."""
    task, net = run.task, torch.nn.Sequential(torch.nn.Linear(64, 6), torch.nn.ReLU(), torch.nn.Linear(6, 10))
    names = ("mlp.W_in", "mlp.b_in", "mlp.W_out", "mlp.b_out")
    with torch.no_grad():
        for parameter, name in zip(net.parameters(), names, strict=True):
            parameter.copy_(torch.atleast_2d(run[0].weights[name]).T.reshape(parameter.shape))
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    inputs, labels = torch.from_numpy(task.inputs), torch.from_numpy(task.labels)
    for _ in range(40):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs[:60]), labels[:60]).backward()
        adam.step()
    with torch.no_grad():
        expected = net(inputs[60:]).double().softmax(1)
    torch.testing.assert_close(digit_probabilities(run), expected, rtol=1e-3, atol=1e-5)


def test_first_weights_are_bounded_as_those_of_torch() -> None:
    wide = digit_run(400, 60, 0.0, draw=0, seed=0)
    weights = initial_weights(wide.experiment.model, wide.experiment.task.sizes)
    for name, rows in {"mlp.W_in": 64, "mlp.b_in": 64, "mlp.W_out": 400, "mlp.b_out": 400}.items():
        bound = 1 / math.sqrt(rows)
        assert weights[name].abs().max() <= bound
        if weights[name].numel() > 100:
            assert weights[name].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_scores_are_those_of_the_probabilities(run: Run) -> None:
    task = run.task
    for step in (None, 0, run.steps[1]):
        scores, probabilities, labels = digit_scores(run, step), digit_probabilities(run, step), digit_labels(run)
        assert probabilities.shape == (797, 10)
        assert torch.allclose(probabilities.sum(1), torch.ones(797, dtype=torch.float64))
        assert scores.test_error == pytest.approx((probabilities.argmax(1) != labels).double().mean().item())
        of_label = probabilities[torch.arange(797), labels]
        assert scores.cross_entropy == pytest.approx(-of_label.log().mean().item(), rel=1e-6)
        by_hand = (1 - 2 * of_label + probabilities.square().sum(1)).mean().item()
        assert scores.brier == pytest.approx(by_hand, rel=1e-9)
    assert (digit_labels(run).numpy() == task.true_labels[task.mask("test")]).all()
    logged = run.metrics.isel(step=-1)
    assert digit_scores(run).training_error == pytest.approx(1 - float(logged.train_accuracy))
    with pytest.raises(InputError, match="step"):
        digit_scores(run, 7)


def test_the_brier_score_of_who_is_sure_and_of_who_guesses() -> None:
    sure = torch.eye(10, dtype=torch.float64)
    assert brier(sure, torch.arange(10)) == 0
    assert brier(sure, (torch.arange(10) + 1) % 10) == 2
    assert brier(torch.full((10, 10), 0.1, dtype=torch.float64), torch.arange(10)) == pytest.approx(0.9)


def test_few_checkpoints_are_kept(run: Run) -> None:
    assert run.steps == [0, 1, 3, 12, 40]
    assert digit_run(6, 60, 0.2, draw=1, seed=0).experiment.training.kept_steps() == [0, 2000]


def test_draws_share_their_test_digits_and_seeds_their_examples() -> None:
    one, of_draw, of_seed = (digit_run(8, 400, 0.2, draw, seed) for draw, seed in ((0, 0), (1, 0), (0, 1)))
    tasks = [each.experiment.task for each in (one, of_draw, of_seed)]
    tested = [each.inputs[each.mask("test")] for each in tasks]
    assert all((each == tested[0]).all() for each in tested)
    assert tasks[0] == tasks[2]
    assert (tasks[0].inputs[:400] != tasks[1].inputs[:400]).any()
    assert len(np.unique(np.concatenate([tasks[0].inputs[:400], tested[0]]), axis=0)) == 1197  # none is in both
    assert len({group_of(each.experiment) for each in (one, of_draw, of_seed)}) == 1  # may train side by side


def test_runs_that_differ_have_other_names() -> None:
    usual = digit_run(8, 400, 0.2, 0, 0)
    others = [
        digit_run(8, 400, 0.2, 0, 0, **changed)
        for changed in (
            {"steps": 3000},
            {"weight_decay": 0.3},
            {"lr": 1e-3},
            {"n_layers": 2},
            {"checkpoint_log": 30},
        )
    ]
    others += [digit_run(*each) for each in ((9, 400, 0.2, 0, 0), (8, 401, 0.2, 0, 0), (8, 400, 0.25, 0, 0))]
    others += [digit_run(8, 400, 0.2, draw, seed) for draw, seed in ((1, 0), (0, 1))]
    assert len({usual.name, *(each.name for each in others)}) == 11
    with pytest.raises(InputError, match="more than the 1,797 digits"):
        digit_run(8, 1001, 0.2, 0, 0)
