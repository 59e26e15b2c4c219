"""One circle of the embedding at a time: closed forms, a second implementation, symmetries, and a pizza in disguise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from interp.analyses import clock_pizza
from interp.analysis import find
from interp.experiment import ModelConfig, Task
from interp.models import initial_weights, logits_with_vectors, matrices
from interp.runs import Checkpoint
from interp.testing import accompany, circuit_checkpoint, circuit_neurons, ideal_logits

ALL_PAIRS = 10**6


def measured(checkpoint: Checkpoint, **parameters) -> dict:
    return find("clock_pizza").summary(
        clock_pizza.measure(checkpoint, **parameters).expand_dims(step=[checkpoint.step])
    )


def standardized(p: int, k: int, amplitude: np.ndarray) -> dict[str, float]:
    """The fit of both formulas to amplitude(d) cos w_k(s+t−u), by the means over the distances."""
    ideal = {"clock": np.ones(p), "pizza": np.abs(np.cos(np.pi * k * np.arange(p) / p))}
    lengths = {name: math.sqrt((one**2).mean() * (amplitude**2).mean()) for name, one in ideal.items()}
    return {name: 2 * (one * amplitude).mean() / lengths[name] - 1 for name, one in ideal.items()}


def as_table(fits: dict) -> np.ndarray:
    return np.array([[fit["clock"], fit["pizza"]] for fit in fits.values()])


@pytest.mark.parametrize("family", ["transformer", "mlp"])
@pytest.mark.parametrize("circuit", ["clock", "pizza"])
def test_an_isolated_circle_of_square_neurons_makes_its_own_term(circuit: str, family: str) -> None:
    """The N square neurons of a pizza make N cos²(w(a−b)/2) cos w(a+b−c), of one circle as of all."""
    p, frequencies = 13, [1, 3, 4]
    neurons = circuit_neurons(frequencies, per_frequency=8, circuit=circuit)
    found = measured(circuit_checkpoint(Task(p), neurons, activation="square", family=family), pairs=ALL_PAIRS)
    for k in frequencies:
        squared = np.cos(np.pi * k * np.arange(p) / p) ** 2
        expected = standardized(p, k, squared if circuit == "pizza" else np.ones(p))
        assert found["isolated_fit_per_frequency"][str(k)] == pytest.approx(expected, abs=1e-9)
    assert found["verdict"] == found["witnesses"]["isolated_circles"] == circuit
    by_sum = circuit == "pizza" and family == "mlp"
    assert found["witnesses"]["gradient_symmetricity"] == (None if by_sum else circuit)


def test_five_neurons_are_a_pizza() -> None:
    """Of Pearce et al.: one frequency, a tied embedding of two dimensions."""
    five = circuit_checkpoint(Task(59), circuit_neurons([1], per_frequency=5), family="mlp", embedding="tied")
    found = measured(five)
    assert (found["verdict"], found["disagreeing"]) == ("pizza", [])
    assert found["isolated_fit_per_frequency"]["1"]["pizza"] > 0.99


def test_accompanying_circles_can_make_a_pizza_look_exactly_like_a_clock() -> None:
    """N cos²(x/2) = N/2 (1 + cos x), and the circle of 2k takes N/2 cos x away: q and the fit of whole logits say
    clock, s_g and circles one at a time pizza, and with that of 2k they do again: there is no name."""
    p, frequencies = 13, [1, 4]
    neurons = circuit_neurons(frequencies, per_frequency=8)
    alone = circuit_checkpoint(Task(p), neurons, activation="square", strength=1.0)
    found = measured(accompany(alone, frequencies, 4.0), key_frequencies=frequencies, pairs=ALL_PAIRS)
    said = {"distance_irrelevance": "clock", "gradient_symmetricity": "pizza", "isolated_circles": "pizza"}
    assert (found["verdict"], found["witnesses"]) == ("neither", said)
    assert_allclose([found["distance_irrelevance"], found["explained_by_clock"]], 1, atol=1e-9)
    assert_allclose(as_table(found["accompanied_fit_per_frequency"])[:, 0], 1, atol=1e-9)
    for k in frequencies:
        expected = standardized(p, k, np.cos(np.pi * k * np.arange(p) / p) ** 2)
        assert found["isolated_fit_per_frequency"][str(k)] == pytest.approx(expected, abs=1e-9)


def test_a_pizza_whose_whole_logits_a_clock_fits_better_is_a_pizza() -> None:
    """As the Model A of Zhong et al.: ReLU neurons, circles of 2k that make up for most of what they lack."""
    frequencies = [1, 3, 8]
    alone = circuit_checkpoint(Task(31), circuit_neurons(frequencies, per_frequency=31), strength=1.0)
    cube = ideal_logits(31, frequencies, "clock")
    mean = float((alone.logits * cube).sum() / cube.square().sum())
    found = measured(accompany(alone, frequencies, 0.6 * mean), key_frequencies=frequencies)
    assert found["explained_by_clock"] > 0.98 > found["explained_by_pizza"] + 0.1
    assert (found["verdict"], found["disagreeing"]) == ("pizza", [])
    isolated, accompanied = (as_table(found[f"{name}_fit_per_frequency"]) for name in ("isolated", "accompanied"))
    assert (isolated[:, 1] > 0.98).all()
    assert (isolated[:, 0] < 0.81).all()
    assert (accompanied[:, 0] > 0.98).all()


def shaken(checkpoint: Checkpoint) -> Checkpoint:
    """With noise on every matrix, so that no circle is ideal."""
    generator = torch.Generator().manual_seed(0)
    noise = {
        name: 0.03 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        for name, weight in checkpoint.weights.items()
    }
    weights = {name: weight + noise[name] for name, weight in checkpoint.weights.items()}
    return Checkpoint(0, weights, checkpoint.task, checkpoint.model)


MODELS = {
    "ab=": (Task(11), {}),
    "logarithms": (Task(11, "multiply"), {}),
    "minus": (Task(11, "subtract"), {"circuit": "clock"}),
    "divide": (Task(11, "divide"), {"circuit": "clock"}),
    "even": (Task(12), {"circuit": "clock"}),
    "sum": (Task(11), {"family": "mlp"}),
    "side by side": (Task(11, "divide"), {"family": "mlp", "circuit": "clock"}),
    "tied": (Task(11), {"family": "mlp", "embedding": "tied"}),
}


@pytest.mark.parametrize(("task", "options"), MODELS.values(), ids=MODELS)
def test_isolated_fits_are_those_of_a_network_whose_embedding_was_cut(task: Task, options: dict) -> None:
    """The second implementation cuts by fast Fourier transform, and fits by whole cubes."""
    options = dict(options)
    circuit = options.pop("circuit", "pizza")
    per_frequency = 16 if circuit == "clock" else 9
    neurons = circuit_neurons([1, 3], per_frequency=per_frequency, circuit=circuit)
    checkpoint = shaken(circuit_checkpoint(task, neurons, **options))
    found = measured(checkpoint, key_frequencies=[1, 3], pairs=ALL_PAIRS)
    phase, n = task.coordinates, task.coordinates.order
    W_E = matrices(checkpoint.weights, checkpoint.model).W_E[: task.p].numpy()
    for circles, kept in (("isolated", (1,)), ("accompanied", (1, 2))):
        waves = np.fft.fft(W_E[phase.rows], axis=0)
        left = [0, *kept, *(n - k for k in kept)]
        waves[[k for k in range(n) if k not in left]] = 0
        cut = W_E.copy()
        cut[phase.rows] = np.fft.ifft(waves, axis=0).real
        pairs = torch.cartesian_prod(torch.from_numpy(phase.rows), torch.from_numpy(phase.columns))
        answers = logits_with_vectors(checkpoint.weights, checkpoint.model, torch.from_numpy(cut)[None], pairs)[0]
        logits = answers[:, torch.from_numpy(phase.classes)].view(n, n, n).numpy()
        wave = np.cos(2 * np.pi * (np.arange(n)[:, None] - np.arange(n)) / n)
        part = logits @ wave * 2 / n
        for formula, fit in found[f"{circles}_fit_per_frequency"]["1"].items():
            cube = ideal_logits(n, [1], formula).numpy()
            y, ideal = (part - part.mean()) / part.std(), (cube - cube.mean()) / cube.std()
            assert_allclose(fit, 1 - np.mean((y - ideal) ** 2), atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"prompt": "ab", "causal": False, "attention_rate": 0.7},
        {"n_layers": 2},
        {"n_layers": 2, "prompt": "ab", "activation": "gelu"},
        {"family": "mlp", "embedding": "untied", "inputs": "concatenated"},
    ],
    ids=str,
)
def test_circles_of_any_network_are_those_of_its_cut_weights(options: dict) -> None:
    """Asked directly, as an untrained network has no circuit: written into W_E itself, the plane gives the logits."""
    task, of_transformer = Task(7), {} if "family" in options else {"n_heads": 2}
    model = ModelConfig(d_model=8, d_mlp=12, **of_transformer, **options)
    weights = {name: weight.double() for name, weight in initial_weights(model, 7).items()}
    found = clock_pizza._isolated_fits(Checkpoint(0, weights, task, model), [1, 3], ALL_PAIRS, 0)
    for j, kept in enumerate(((3,), (1, 3))):  # 2·3 = −1 modulo 7
        waves = np.fft.fft(weights["embed.W_E"][:7].numpy(), axis=0)
        waves[[k for k in range(1, 7) if min(k, 7 - k) not in kept]] = 0
        W_E = weights["embed.W_E"].clone()
        W_E[:7] = torch.from_numpy(np.fft.ifft(waves, axis=0).real)
        cut = Checkpoint(0, weights | {"embed.W_E": W_E}, task, model)
        fits = measured(cut, key_frequencies=[3])["fit_per_frequency"]["3"]
        assert_allclose(found[j, :, 2], [fits["clock"], fits["pizza"]], atol=1e-9)


def test_renamed_residues_permute_the_circles() -> None:
    """a → 3a for both inputs and the answer, modulo 11: frequency k becomes k/3."""
    checkpoint = shaken(circuit_checkpoint(Task(11), circuit_neurons([1, 3])))
    renamed = torch.arange(11) * 3 % 11  # residue x is now called 3x
    weights = {name: weight.clone() for name, weight in checkpoint.weights.items()}
    weights["embed.W_E"][renamed] = checkpoint.weights["embed.W_E"][:11]
    weights["unembed.W_U"][:, renamed] = checkpoint.weights["unembed.W_U"]
    other = Checkpoint(0, weights, checkpoint.task, checkpoint.model)
    one = measured(checkpoint, key_frequencies=[1, 3], pairs=ALL_PAIRS)
    two = measured(other, key_frequencies=[4, 1], pairs=ALL_PAIRS)  # 1/3 = 4 modulo 11
    for circles in ("isolated", "accompanied"):
        before, after = (found[f"{circles}_fit_per_frequency"] for found in (one, two))
        assert before["1"] == pytest.approx(after["4"], abs=1e-9)
        assert before["3"] == pytest.approx(after["1"], abs=1e-9)


def test_swapped_inputs_change_no_circle() -> None:
    checkpoint = shaken(circuit_checkpoint(Task(11), circuit_neurons([1, 3], per_frequency=16, circuit="clock")))
    W_pos = checkpoint.weights["pos_embed.W_pos"][[1, 0, 2]]
    other = Checkpoint(0, checkpoint.weights | {"pos_embed.W_pos": W_pos}, checkpoint.task, checkpoint.model)
    one, two = (measured(network, key_frequencies=[1, 3], pairs=ALL_PAIRS) for network in (checkpoint, other))
    for name in ("isolated_fit_per_frequency", "accompanied_fit_per_frequency"):
        assert_allclose(as_table(one[name]), as_table(two[name]), atol=1e-9)


def test_a_few_pairs_of_every_distance_say_what_all_say() -> None:
    checkpoint = shaken(circuit_checkpoint(Task(43), circuit_neurons([3, 11, 12]), strength=1.0))
    every, few = (measured(checkpoint, pairs=pairs)["isolated_fit_per_frequency"] for pairs in (ALL_PAIRS, 200))
    assert_allclose(as_table(few), as_table(every), atol=0.02)
    assert not np.allclose(as_table(few), as_table(every), atol=1e-6)


def test_both_vocabularies_are_cut() -> None:
    """Where b has a vocabulary of its own with the same vectors, circles are what they are with one."""
    one = shaken(circuit_checkpoint(Task(11), circuit_neurons([1, 3])))
    W_E = one.weights["embed.W_E"]
    both = one.weights | {"embed.W_E": torch.cat([W_E[:11], W_E])}
    two = Checkpoint(0, both, one.task, replace(one.model, vocabularies="two"))
    found = [measured(network, key_frequencies=[1, 3], pairs=ALL_PAIRS) for network in (one, two)]
    for name in ("isolated_fit_per_frequency", "accompanied_fit_per_frequency"):
        assert_allclose(*(as_table(one[name]) for one in found), atol=1e-9)


def test_the_figure_names_the_witness_that_disagrees() -> None:
    alone = circuit_checkpoint(Task(13), circuit_neurons([1, 4], per_frequency=8), activation="square", strength=1.0)
    of_pizza = clock_pizza.measure(alone, key_frequencies=[1, 4]).expand_dims(step=[0])
    of_none = clock_pizza.measure(accompany(alone, [1, 4], 4.0), key_frequencies=[1, 4]).expand_dims(step=[0])
    turned = of_pizza.copy(deep=True)
    turned.fit.loc[{"circles": "isolated"}] = of_pizza.fit.sel(circles="isolated").values[..., ::-1, :]
    cases = ((of_pizza, "pizza"), (of_none, "neither"), (turned, "pizza, but not by isolated circles"))
    for result, title in cases:
        figure = clock_pizza.plot(result)
        assert f"Clock or pizza: {title}<" in figure.layout.title.text
        bars = [trace for trace in figure.data if trace.type == "bar"]
        fits = [result.fit.sel(circles="isolated", formula=name, frequency=[1, 4]) for name in ("clock", "pizza")]
        assert_allclose([bar.y for bar in bars], [fit.isel(step=0) for fit in fits])
