"""The search for recipes: what it tells of a run, that it begins no run twice, and what its table says."""

import importlib
import json
from pathlib import Path

import pytest

from interp.experiment import Experiment, ModelConfig, Task, TrainingConfig
from interp.models import Snapshot, initial_weights
from interp.testing import circuit_checkpoint, circuit_neurons
from interp.training import METRICS

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TINY = ModelConfig(d_model=8, n_heads=2, d_mlp=16)


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("recipes")


def snapshots(train_accuracy: dict[int, float], test_accuracy: dict[int, float]) -> list[Snapshot]:
    """Every fifth step of accuracies that stay as they are from the given steps on."""

    def at(step: int, accuracy: dict[int, float]) -> float:
        return accuracy[max(since for since in accuracy if since <= step)]

    def metrics(step: int) -> dict[str, float]:
        return dict.fromkeys(METRICS, 1.0) | {
            "train_accuracy": at(step, train_accuracy),
            "test_accuracy": at(step, test_accuracy),
            "unmirrored_test_accuracy": at(step, test_accuracy),
        }

    return [Snapshot(step, {}, metrics(step), {}, False) for step in range(0, 205, 5)]


def test_what_the_curves_tell(recipes):
    told = recipes.told(snapshots({0: 0.0, 20: 1.0}, {0: 0.0, 60: 0.995, 80: 0.4, 100: 1.0}))
    assert (told["memorized"], told["generalized"], told["sustained"], told["lowest_after"]) == (20, 60, 100, 0.4)
    assert (told["steps"], told["verdict"]) == (200, "grokking")
    never = recipes.told(snapshots({0: 0.0, 20: 1.0}, {0: 0.1}))
    assert (never["memorized"], never["sustained"], never["lowest_after"], never["verdict"]) == (
        20,
        None,
        None,
        "memorization",
    )


def test_a_run_ends_with_its_answer_or_with_its_steps(recipes, monkeypatch):
    """The curves are given: 99 % at step 60, a loss below 1e-6 from step 100 on. Neurons are judged every 50 steps from
    there."""
    experiment = Experiment(Task(p=7), TINY)
    curves = snapshots({0: 0.0, 20: 1.0}, {0: 0.0, 60: 1.0})
    for snapshot in curves:
        snapshot.metrics["test_loss"] = 1.0 if snapshot.step < 100 else 1e-7
    monkeypatch.setattr(recipes, "train", lambda _: iter(curves))
    shares = iter([0.89, 0.9, 0.9])
    monkeypatch.setattr(recipes, "periodic_share", lambda snapshot, _: next(shares))
    clean = recipes.outcome(experiment)
    assert (clean["sustained"], clean["clean"], clean["steps"], clean["periodic"]) == (60, 150, 150, 0.9)
    shares = iter([0.5] * 5)
    never = recipes.outcome(experiment)
    assert (never["sustained"], never["clean"], never["steps"], never["periodic"]) == (60, None, 200, 0.5)
    shares = iter([0.5] * 5)
    assert recipes.outcome(experiment, after=20)["steps"] == 80


def test_the_neurons_of_a_planted_circuit_are_periodic(recipes):
    planted = circuit_checkpoint(Task(7), circuit_neurons([1, 2]))
    experiment = Experiment(planted.task, planted.model)
    assert recipes.periodic_share(Snapshot(0, planted.weights, {}, {}, True), experiment) == 1.0
    untrained = initial_weights(planted.model, 7)
    assert recipes.periodic_share(Snapshot(0, untrained, {}, {}, True), experiment) < 1.0


def test_a_run_that_diverges_is_a_line_too(recipes):
    training = TrainingConfig(steps=400, optimizer="sgd", lr=1e4, log_every=5, checkpoint_every=None)
    line = recipes.outcome(Experiment(Task(p=7), TINY, training))
    assert line["diverged"]
    assert line["sustained"] is None
    assert json.loads(json.dumps(line, allow_nan=False)) == line


def test_no_run_is_done_twice(recipes, tmp_path, monkeypatch):
    file = tmp_path / "lines.jsonl"
    training = TrainingConfig(steps=5, log_every=5, checkpoint_every=None)
    wanted = {f"seed {seed}": (Experiment(Task(p=7, seed=seed), TINY, training), None) for seed in range(3)}
    first = recipes.search(file, dict(list(wanted.items())[:2]), 1)
    whole = file.read_text()
    file.write_text(whole + '{"key": "seed 2", "st')  # a kill cut it short
    done = []
    original = recipes.outcome
    monkeypatch.setattr(
        recipes, "outcome", lambda experiment, *rest: done.append(experiment.task.seed) or original(experiment, *rest)
    )
    again = recipes.search(file, wanted, 1)
    assert done == [2]
    assert {key: again[key] for key in first} == first
    assert recipes.search(file, wanted, 1) == again
    assert done == [2]


def test_equal_runs_have_one_key_and_others_another(recipes):
    def key(recipe: str = "lr 1e-2, wd 3", p: int = 7, seed: int = 0, after: int | None = None) -> str:
        chosen = recipes.RECIPES[recipe]
        return recipes.key_of((recipes.experiment_of(chosen, p, seed, TINY), after))

    keys = [key(), key(p=11), key(seed=1), key(after=50), key("lr 2e-2, wd 2"), key("lr 1e-2, wd 3, weights ×0.5")]
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_the_table(recipes):
    line = {
        "memorized": 50,
        "sustained": 200,
        "lowest_after": 0.95,
        "clean": 700,
        "test_loss": 9e-7,
        "periodic": 0.93,
        "verdict": "grokking",
    }
    slow = line | {"sustained": 300, "lowest_after": 1.0, "clean": 900}
    lost = line | {
        "sustained": None,
        "lowest_after": None,
        "clean": None,
        "test_loss": 3.0,
        "periodic": None,
        "verdict": "memorization",
    }
    assert recipes.table(["a"], {("a", 97): [line, slow, lost], ("a", 59): [lost]}).splitlines()[2:] == [
        "| a | 59 | 50 | – | – | 1 of 1 | 0 of 1 | – | 0 of 1 | 3e+00 | – |",
        "| a | 97 | 50 | 200 / 250 / 300 | 5.0 | 1 of 3 | 2 of 3 | 95.0 % | 700 / 800 / 900 (2 of 3) | 3e+00 | 93 % |",
    ]


def test_every_recipe_can_be_trained(recipes):
    for recipe in recipes.RECIPES.values():
        experiment = recipes.experiment_of(recipe, 59, 3, TINY)
        assert (experiment.task.p, experiment.task.seed, experiment.model.seed, experiment.training.seed) == (
            59,
            3,
            3,
            3,
        )
        assert experiment.model.d_mlp == 16
        assert experiment.training.kept_steps() == [0, experiment.training.steps]


def test_the_factor_is_on_all_initial_weights(recipes):
    experiment = recipes.experiment_of(recipes.RECIPES["lr 1e-2, wd 3, weights ×0.5"], 7, 0, TINY)
    started = initial_weights(experiment.model, 7)
    assert all((started[name] == weight / 2).all() for name, weight in initial_weights(TINY, 7).items())
