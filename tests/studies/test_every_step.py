"""The truth that verdicts are judged by: its forward pass, its questions and its words, on cases made by hand."""

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.studies.every_step import Truth, count_wrong, logits, questions, truth
from interp.testing import LookupTable, circuit_model, circuit_neurons, circuit_weights

MODELS = {
    "transformer": ModelConfig(d_model=8, n_heads=2, d_mlp=16),
    "wide heads": ModelConfig(d_model=8, n_heads=3, d_head=5, d_mlp=16, activation="square"),
    "not causal": ModelConfig(d_model=8, d_mlp=16, causal=False),
    "sum": ModelConfig(family="mlp", d_mlp=16, activation="square"),
    "concatenated": ModelConfig(family="mlp", inputs="concatenated", d_mlp=16),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_forward_pass_by_hand_is_that_of_the_package(name: str):
    task, model = Task(11), MODELS[name]
    weights = {key: weight.double() * 1.7 for key, weight in initial_weights(model, 11).items()}
    for key, weight in weights.items():  # biases begin at 0, where nobody sees whether they are added
        if "b_" in key:
            weight.copy_(torch.linspace(-1, 1, len(weight), dtype=torch.float64))
    found = logits({key: weight.numpy() for key, weight in weights.items()}, model, task.pairs)
    expected = Checkpoint.from_weights(weights, task, model).activations.logits.reshape(121, 11)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig(n_layers=2),
        ModelConfig(prompt="ab"),
        ModelConfig(activation="gelu"),
        ModelConfig(attention_rate=0.5),
        ModelConfig(vocabularies="two"),
        ModelConfig(family="mlp", embedding="tied"),
        ModelConfig(family="mlp", n_layers=2),
        ModelConfig(family="mlp", biases=True),
        ModelConfig(biases=True),
    ],
)
def test_networks_whose_formulas_are_not_written_down_are_refused(model: ModelConfig):
    with pytest.raises(InputError, match="asked at every step are"):
        logits({}, model, Task(7).pairs)


@pytest.mark.parametrize("operation", ["add", "subtract", "multiply", "x2+xy+y2", "random"])
def test_what_is_asked(operation: str):
    """The pairs that the package calls unmirrored, the labels it calls true, and those that are trained on."""
    task = Task(13, operation, train_fraction=0.4, label_noise=0.2, seed=3)
    asked, index = questions(task), np.flatnonzero(task.mask("unmirrored"))
    assert asked.unseen.tolist() == task.pairs[index].tolist()
    assert asked.answers.tolist() == task.true_labels[index].tolist()
    assert asked.trained.tolist() == task.pairs[task.train_indices].tolist()
    assert asked.taught.tolist() == task.labels[task.train_indices].tolist()
    assert (asked.taught != task.true_labels[task.train_indices]).sum() == len(asked.taught) // 5
    different = {tuple(sorted(pair)) if task.commutative else tuple(pair) for pair in asked.unseen.tolist()}
    assert asked.unordered == len(different)


def test_answers_that_are_not_written_down_are_refused():
    with pytest.raises(InputError, match=r"the answers of x3\+xy are not written down here; known: add, subtract"):
        questions(Task(7, "x3+xy"))


@pytest.mark.parametrize("family", ["mlp", "transformer"])
def test_planted_networks_are_counted(family: str):
    """A circuit knows all, a lookup table its training pairs alone."""
    task, neurons = Task(11, train_fraction=0.5), circuit_neurons([1, 3], per_frequency=16, circuit="clock")
    table = LookupTable(strength=20.0)
    model = circuit_model(neurons, family=family, task=task, lookup=table)
    asked = questions(task)

    def wrong(strength: float, lookup: LookupTable | None) -> tuple[int, int]:
        weights = circuit_weights(task, model, neurons, strength=strength, lookup=lookup)
        return count_wrong({name: weight.numpy() for name, weight in weights.items()}, model, asked)

    assert wrong(10.0, None) == wrong(10.0, table) == (0, 0)
    by_table = wrong(0.0, table)
    # It answers 0 to what it does not know, or what rounding makes the largest of equal logits.
    silent = sum(1 for answer in asked.answers if answer == 0)
    assert by_table[0] == 0
    assert asked.unordered - silent <= by_table[1] <= asked.unordered


def test_a_pair_is_wrong_when_either_order_is():
    task = Task(5, split=(0,))
    asked, model = questions(task), ModelConfig(family="mlp", inputs="concatenated", d_mlp=10, activation="relu")
    W_in, W_out = np.eye(10), np.zeros((10, 5))
    weights = {"mlp.W_in": W_in, "mlp.W_out": W_out}
    assert count_wrong(weights, model, asked) == (0, asked.unordered - 2)  # all 0: right of 1 + 4 and 2 + 3
    W_out[0, 1] = 1.0  # who has a = 0 is answered 1, and so is 0 + 1, but not 1 + 0
    assert count_wrong(weights, model, asked) == (1, asked.unordered - 2)
    W_out[5, 1] = 1.0  # and b = 0
    assert count_wrong(weights, model, asked) == (1, asked.unordered - 3)


# ---- words -----------------------------------------------------------------------------------------------------------

PAIRS = (200, 80)
NOTHING = (195, 78)


def told(trained: dict[int, int], unseen: dict[int, int], budget: int = 1000) -> Truth:
    """The truth of a network whose wrong answers change at the steps given."""
    curves = []
    for changes, of_start in zip((trained, unseen), NOTHING, strict=True):
        wrong = np.full(4 * budget + 1, of_start)
        for step, value in changes.items():
            wrong[step:] = value
        curves.append(wrong)
    return truth(*curves, PAIRS, budget)


@pytest.mark.parametrize(
    ("trained", "unseen", "expected"),
    [
        ({100: 0}, {500: 0}, Truth("grokking", False, 100.0, 500.0, False)),
        ({100: 2}, {500: 2}, Truth("grokking", False, 100.0, 500.0, False)),
        ({100: 0}, {290: 0}, Truth("comprehension", True, 100.0, 290.0, False)),
        ({100: 0}, {310: 0}, Truth("grokking", True, 100.0, 310.0, False)),
        ({100: 0}, {200: 0}, Truth("comprehension", False, 100.0, 200.0, False)),
        ({300: 0}, {200: 0}, Truth("comprehension", False, 300.0, 200.0, False)),
        ({100: 40}, {200: 0}, Truth("comprehension", False, np.nan, 200.0, False)),  # wrong labels, never learned
        ({100: 0}, {500: 10}, Truth("memorization", False, 100.0, np.nan, False)),
        ({100: 0}, {500: 4}, Truth("memorization", True, 100.0, np.nan, False)),
        ({100: 0}, {1001: 0}, Truth("memorization", False, 100.0, np.nan, False)),  # after the cut
        ({100: 0}, {500: 0, 530: 78}, Truth("memorization", False, 100.0, np.nan, False)),  # touched and not held
        ({100: 50}, {500: 70}, Truth("confusion", False, np.nan, np.nan, False)),
        ({100: 0}, {500: 0, 900: 78}, Truth("collapse", False, 100.0, 500.0, False)),
        ({100: 0}, {500: 0, 900: 20}, Truth("grokking", False, 100.0, 500.0, False)),
        ({100: 0}, {500: 0, 900: 36}, Truth("grokking", True, 100.0, 500.0, False)),
        ({100: 0}, {500: 0, 900: 78, 2000: 0}, Truth("grokking", False, 100.0, 500.0, True)),  # a dip
        ({100: 0}, {500: 0, 900: 78, 2000: 0, 2030: 78}, Truth("collapse", False, 100.0, 500.0, False)),
        ({100: 0}, {500: 0, 900: 78, 3990: 0}, Truth("collapse", False, 100.0, 500.0, False)),  # too late to be seen
        ({100: 0}, {500: 0, 510: 78, 550: 0}, Truth("grokking", False, 100.0, 500.0, False)),  # 84 % of 500 … 750
        ({100: 0}, {500: 0, 510: 78, 520: 0}, Truth("grokking", False, 100.0, 500.0, False)),
    ],
)
def test_the_words(trained: dict[int, int], unseen: dict[int, int], expected: Truth):
    np.testing.assert_equal(told(trained, unseen), expected)


def test_of_many_pairs_a_share_may_be_wrong():
    wrong = np.full(401, 12)
    assert truth(wrong, wrong, (1200, 1200), 100).verdict == "comprehension"
    assert truth(wrong, wrong, (1100, 1100), 100).verdict == "confusion"
