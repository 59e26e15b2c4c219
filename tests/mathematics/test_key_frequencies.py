"""The rule by which a frequency is key: planted sets are found, whole and alone, and where there is none nothing is."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from interp import reference_path
from interp.experiment import ModelConfig, Task
from interp.mathematics import key_frequencies
from interp.mathematics.key_frequencies import (
    centre,
    evidence,
    frequencies_of,
    in_phase,
    judges_of,
    logit_measures,
    logits_in_phase,
    output_norms,
)
from interp.models import initial_weights
from interp.runs import Checkpoint, open_run
from interp.testing import Neuron, circuit_checkpoint, circuit_model, circuit_neurons, circuit_weights


def planted_logits(n: int, strengths: dict[int, float]) -> Tensor:
    """Σ_k strength_k · cos w_k(a + b − c)."""
    a, b, c = torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij")
    angle = 2 * math.pi * ((a + b - c) % n).double() / n
    return sum(
        (strength * torch.cos(k * angle) for k, strength in strengths.items()),
        torch.zeros(n, n, n, dtype=torch.float64),
    )


def all_pairs(n: int) -> key_frequencies.Judges:
    """Every pair an observation of its own."""
    return judges_of(torch.arange(n * n).view(n, n), torch.ones(n, n, dtype=torch.bool))


def random_logits(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- shares of the logits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [7, 12, 13, 30])
def test_shares_of_planted_logits(n: int) -> None:
    """‖cos w_k(a + b − c)‖² is n³/2, and n³ for k = n/2."""
    strengths = {1: 1.0, 3: 2.0, n // 2: 0.5}
    squares = {k: strength**2 * (1 if 2 * k == n else 0.5) for k, strength in strengths.items()}
    expected = torch.tensor(
        [squares.get(k, 0) / sum(squares.values()) for k in range(1, n // 2 + 1)], dtype=torch.float64
    )
    assert_close(logit_measures(centre(planted_logits(n, strengths)))[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 12, 13, 43])
def test_each_frequency_alone_has_the_whole_share(n: int) -> None:
    for k in range(1, n // 2 + 1):
        assert_close(logit_measures(centre(planted_logits(n, {k: 3.0})))[0][k - 1].item(), 1.0, rtol=0, atol=1e-12)


def test_shares_are_overlaps_with_cosines_and_sines_written_out() -> None:
    n, logits = 7, random_logits(7)
    centred = logits - logits.mean(-1, keepdim=True)
    a, b = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    for k in range(1, n // 2 + 1):
        angle = 2 * math.pi * k * (a + b).double() / n
        directions = [direction / direction.norm() for direction in (angle.cos(), angle.sin())]
        power = sum(torch.einsum("ab,abc->c", direction, centred).square().sum() for direction in directions)
        assert_close(logit_measures(centre(logits))[0][k - 1], power / centred.square().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [7, 8])
def test_alignments_are_the_waves_that_add_and_keep_their_sign(n: int) -> None:
    """cos w_k(a+b−c) alone is 1, its negative −1, cos w_k(a+b+c) and a sine 0, and of the waves of one sum and another
    frequency of the classes nothing; of noise what the definition gives."""
    a, b, c = torch.meshgrid(*[torch.arange(n).double()] * 3, indexing="ij")
    w = 2 * math.pi / n
    for k in range(1, n // 2 + 1):
        adds = torch.cos(k * w * (a + b - c))
        others = [torch.cos((k * w * (a + b)) + w * c) if k > 1 else torch.sin(w * (a + b - c)) if n > 2 else adds]
        if 2 * k < n:
            others += [torch.sin(k * w * (a + b - c)), torch.cos(k * w * (a + b + c))]
        values = [logit_measures(centre(logits))[1][k - 1].item() for logits in (adds, -3 * adds, *others)]
        assert values == pytest.approx([1, -1, *[0] * len(others)], abs=1e-12)
        noise = random_logits(n)
        share, alignment = (measure[k - 1] for measure in logit_measures(centre(noise)))
        along = (noise * adds).sum() / adds.norm()
        power = share * (noise - noise.mean(-1, keepdim=True)).square().sum()
        assert_close(alignment, along.sign() * along.square() / power, rtol=1e-9, atol=0)


def test_shares_forget_scale_offsets_and_where_the_circle_begins() -> None:
    logits = planted_logits(13, {2: 1.0, 5: 0.4}) + random_logits(13)
    shares = logit_measures(centre(logits))[0]
    assert (shares > 0).all()
    for same in (
        -7 * logits,
        logits + 100 * random_logits(13)[:, :, :1],
        logits.roll((3, 1), (0, 1)),
        logits.roll(4, 2),
    ):
        assert_close(logit_measures(centre(same))[0], shares, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1 / 3, -1e3 / 7])
def test_logits_that_prefer_no_class_have_no_shares(value: float, dtype: torch.dtype) -> None:
    """Constant, or different for each pair but not for the classes: what is left after centring is rounding."""
    constant = torch.full((13, 13, 13), value, dtype=dtype)
    per_pair = (value * random_logits(13)[:, :, :1]).to(dtype).expand(13, 13, 13).contiguous()
    assert not logit_measures(centre(constant))[0].any()
    assert not logit_measures(centre(per_pair))[0].any()


# ---- norms of the output map -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["add", "multiply"])
def test_norms_of_a_planted_output_map(operation: str) -> None:
    """A neuron with W_L = r cos(w_k c − φ) over the phases of the classes has the norm r √(n/2) at k."""
    task = Task(p=13, operation=operation)
    n, classes = task.coordinates.order, torch.from_numpy(task.coordinates.classes)
    t = torch.arange(n, dtype=torch.float64)
    rows = [
        3 * torch.cos(2 * math.pi * 2 * t / n - 0.3),
        4 * torch.cos(2 * math.pi * 2 * t / n + 1),
        torch.cos(2 * math.pi * 5 * t / n),
    ]
    W_U = torch.zeros(3, 13, dtype=torch.float64)
    W_U[:, classes] = torch.stack(rows)
    expected = torch.zeros(n // 2, dtype=torch.float64)
    expected[1], expected[4] = 5 * math.sqrt(n / 2), math.sqrt(n / 2)
    assert_close(output_norms(W_U, task.coordinates), expected, rtol=0, atol=1e-12)


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "p", "planted"),
    [
        ("add", 13, [1, 4, 6]),
        ("add", 12, [1, 5]),
        ("subtract", 11, [5]),
        ("subtract", 10, [1, 2, 4]),
        ("multiply", 13, [2, 5]),
        ("multiply", 17, [1, 3, 4]),
        ("divide", 13, [1, 2, 4, 5]),
        ("add", 59, [7, 12, 29]),
    ],
)
def test_a_planted_clock_has_exactly_its_frequencies(operation: str, p: int, planted: list[int]) -> None:
    """With squares its logits are exactly Σ_k cos w_k(s + t − u): equal shares that add up to one."""
    checkpoint = circuit_checkpoint(
        Task(p=p, operation=operation), circuit_neurons(planted, circuit="clock"), activation="square"
    )
    assert checkpoint.key_frequencies == planted
    n = checkpoint.task.phase.order
    table = logits_in_phase(checkpoint.logits, checkpoint.task.phase)
    expected = planted_logits(n, dict.fromkeys(planted, 10 * 9 / 2))
    assert_close(table - table.mean(-1, keepdim=True), expected, rtol=0, atol=1e-9)
    assert_close(checkpoint.spectrum.logit_shares.sum().item(), 1.0, rtol=0, atol=1e-9)


@pytest.mark.parametrize("p", [12, 10])
def test_half_the_modulus_is_found(p: int) -> None:
    """One neuron, cos πs + cos πt squared, is 2 + 2(−1)^(s+t): with a cosine over the classes it is frequency p/2."""
    checkpoint = circuit_checkpoint(Task(p=p), [Neuron(p // 2, 0.0, 0.0)], activation="square")
    assert checkpoint.key_frequencies == [p // 2] == [checkpoint.spectrum.n_frequencies]


@pytest.mark.parametrize("p", [13, 31])
def test_a_planted_pizza_holds_two_thirds_of_its_power_in_the_sum(p: int) -> None:
    """cos²(w(a−b)/2) = ½ + ½ cos w(a−b): the first part is the sum's, and ¼ of ¼ + ⅛ is ⅔."""
    strengths = {2: 1.0, 5: 0.5, 6: 0.26, 3: 0.21}
    neurons = circuit_neurons(strengths, per_frequency=5)
    task, model = Task(p=p), circuit_model(neurons, "square")
    weights = circuit_weights(task, model, neurons)
    weights["blocks.0.mlp.W_out"] *= torch.tensor(
        [[strengths[neuron.frequency]] for neuron in neurons], dtype=torch.float64
    )
    checkpoint = Checkpoint.from_weights(weights, task, model)
    total = sum(strength**2 for strength in strengths.values())
    for k in range(1, checkpoint.spectrum.n_frequencies + 1):
        strength = strengths.get(k, 0.0)
        assert checkpoint.spectrum.logit_shares[k - 1].item() == pytest.approx(2 / 3 * strength**2 / total, abs=1e-12)
        assert checkpoint.spectrum.output_norms[k - 1].item() == pytest.approx(
            10 * strength * math.sqrt(5 * p / 2), abs=1e-9
        )
    assert checkpoint.key_frequencies == [2, 3, 5, 6]


def test_published_frequencies_of_the_published_modulus() -> None:
    """Also 56, the highest, which published code cannot find."""
    planted = dict.fromkeys([14, 35, 41, 42, 52, 56], 4.0)
    logits = centre(planted_logits(113, planted) + 0.5 * random_logits(113))
    assert frequencies_of(evidence(logits, all_pairs(113), held_out=False).is_key) == sorted(planted)


# ---- where there is none ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held_out", [True, False])
def test_nothing_is_key_in_noise_and_in_equal_logits(held_out: bool) -> None:
    for logits in (random_logits(53), torch.ones(53, 53, 53, dtype=torch.float64)):
        assert frequencies_of(evidence(centre(logits), all_pairs(53), held_out=held_out).is_key) == []
    assert logit_measures(centre(random_logits(53)))[0].mean().item() == pytest.approx(2 / 53**2, rel=0.2)


@pytest.mark.parametrize("p", [3, 5, 7, 11, 13, 14])
def test_a_signal_by_chance_is_as_rare_as_said(p: int) -> None:
    """Of 400 tables of noise about 4 have one, and 12 or more once in a thousand times."""
    generator, found = torch.Generator().manual_seed(p), 0
    for _ in range(400):
        noise = centre(torch.randn(p, p, p, generator=generator, dtype=torch.float64))
        found += bool(evidence(noise, all_pairs(p), held_out=True).has_signal.any())
    assert found <= 11


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_key_before_training(seed: int) -> None:
    model = ModelConfig(d_model=64, d_mlp=256, seed=seed)
    checkpoint = Checkpoint.from_weights(initial_weights(model, 53), Task(p=53), model)
    assert (
        checkpoint.spectrum.output_norms > key_frequencies.NORM_THRESHOLD * checkpoint.spectrum.output_norms.max()
    ).all()
    assert checkpoint.key_frequencies == []


# ---- phase coordinates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "p"), [("add", 6), ("subtract", 6), ("multiply", 7), ("divide", 7)])
def test_in_phase_the_right_class_of_s_and_t_is_their_sum(operation: str, p: int) -> None:
    task = Task(p=p, operation=operation)
    labels = torch.from_numpy(task.true_labels).reshape(p, p)
    right = torch.nn.functional.one_hot(labels.clamp(min=0), p).double()
    table = logits_in_phase(right, task.phase)
    n = task.phase.order
    assert table.shape == (n, n, n)
    s = torch.arange(n)
    assert torch.equal(table.argmax(-1), (s[:, None] + s) % n)
    neurons = torch.arange(p * p * 2).reshape(p, p, 2).double()
    rows, columns = task.phase.rows, task.phase.columns
    assert torch.equal(in_phase(neurons, task.phase)[2, 3], neurons[rows[2], columns[3]])


def test_of_shuffled_neurons_only_waves_that_happen_to_add_are_key() -> None:
    """A grokked network reads and speaks in its frequencies even when its neurons were shuffled in between, but with a
    phase of the sum that is anybody's: by half of them the right answer gains, and less than a tenth of what it
    did."""
    run = open_run(reference_path())
    found, unrelated = run.last, []
    assert found.key_frequencies == [3, 11, 12]
    strengths = found.spectrum.evidence.strength
    for seed in range(20):
        order = torch.randperm(128, generator=torch.Generator().manual_seed(seed))
        weights = {**found.weights, "blocks.0.mlp.W_out": found.weights["blocks.0.mlp.W_out"][order]}
        shuffled = Checkpoint.from_weights(weights, run.task, run.model).spectrum
        assert set(frequencies_of(shuffled.key_mask)) <= set(found.key_frequencies)
        assert (shuffled.evidence.strength[shuffled.key_mask] > 0).all()
        unrelated += (shuffled.evidence.strength / strengths)[found.spectrum.key_mask].tolist()
    assert abs(sum(unrelated)) / 60 < 0.1
    assert 18 <= sum(value > 0 for value in unrelated) <= 42


def test_nothing_is_key_in_gaussian_weights() -> None:
    """As large as the trained ones, tensor by tensor."""
    run = open_run(reference_path())
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        weights = {
            name: weight.std() * torch.randn(weight.shape, generator=generator)
            for name, weight in run.last.weights.items()
        }
        assert Checkpoint.from_weights(weights, run.task, run.model).key_frequencies == []
