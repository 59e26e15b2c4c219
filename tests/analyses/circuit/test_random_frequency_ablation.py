"""The null of frequency ablation: random sets of as many frequencies as are key, removed from planted circuits, where
it is known what they carry, and from networks in which there is nothing to find."""

import pytest
from numpy.testing import assert_allclose

from interp.analyses import frequency_ablation
from interp.analysis import find
from interp.experiment import ModelConfig, Task
from interp.mathematics.random_sets import random_sets
from interp.models import initial_weights
from interp.runs import Checkpoint
from interp.testing import LookupTable, circuit_checkpoint, circuit_neurons

EXACT = {"rtol": 1e-9, "atol": 1e-11}


@pytest.mark.parametrize("circuit", ["clock", "pizza"])
def test_without_its_frequencies_a_planted_circuit_is_lost_and_without_any_others_it_is_not(circuit: str) -> None:
    """Square neurons speak in their own frequencies and, faintly, in twice these; nothing is at 1 … 9 but 3 and 7."""
    p, key = 29, [3, 7]
    neurons = circuit_neurons(key, per_frequency=24, circuit=circuit)
    checkpoint = circuit_checkpoint(Task(p, train_fraction=0.4), neurons)
    result = frequency_ablation.measure(checkpoint)
    assert result.frequency[result.is_key].values.tolist() == key
    random = result.sel(mode=list(frequency_ablation.RANDOM))
    assert_allclose(random.accuracy, 1, rtol=0)
    for target in ("embedding", "neurons"):
        removed = result.sel(target=target, mode=frequency_ablation.IN_SAMPLE)
        assert (removed.accuracy < 0.4).all()
        assert (removed.loss > random.loss.sel(target=target).max("mode") + 1).all()


def test_random_sets_hurt_by_what_they_carry() -> None:
    """Of four planted frequencies two are said to be key: a random set with either of the others costs something, and
    one with neither costs nothing."""
    checkpoint = circuit_checkpoint(
        Task(29), circuit_neurons([1, 4, 6, 10], per_frequency=16, circuit="clock"), activation="square", strength=0.02
    )
    result = frequency_ablation.measure(checkpoint, key_frequencies=[1, 4])
    loss = result.loss.sel(target="logits", split="all")
    for mode, some in zip(frequency_ablation.RANDOM, random_sets(14, [1, 4], 8), strict=True):
        lost = float(loss.sel(mode=mode)) - checkpoint.loss("all")
        assert (lost > 0.1) == bool({6, 10} & set(some)), (some, lost)
    facts = find("frequency_ablation").summary(result.expand_dims(step=[0]))
    lowest, highest = facts["random_loss"]["logits"]["all"]
    assert_allclose([lowest, highest], [loss[3:].min(), loss[3:].max()], rtol=0)
    assert lowest + 0.2 < highest
    assert_allclose(facts["loss_in_sample"]["logits"]["all"], facts["loss"]["logits"]["remove_key"], **EXACT)
    assert facts["held_out_accuracy"]["logits"]["keep_key"] == facts["random_accuracy"]["logits"]["held_out"][1] == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_an_untrained_network_no_set_is_worth_more_than_another(seed: int) -> None:
    """The key set called key for the sake of it: without it losses are no higher than without all random sets."""
    model = ModelConfig(d_model=32, n_heads=2, d_mlp=64, seed=seed)
    task = Task(31, train_fraction=0.4)
    checkpoint = Checkpoint(0, {n: w.double() for n, w in initial_weights(model, 31).items()}, task, model)
    assert checkpoint.key_frequencies == []
    result = frequency_ablation.measure(checkpoint, key_frequencies=[2, 9, 13])
    lowest, highest = frequency_ablation.random_range(result.loss.sel(target=["embedding", "neurons"], split="all"))
    removed = result.loss.sel(target=["embedding", "neurons"], split="all", mode=frequency_ablation.IN_SAMPLE)
    assert (removed < highest + 0.02).all()
    assert (removed > lowest - 0.02).all()


def test_a_lookup_table_has_no_key_set_to_compare() -> None:
    checkpoint = circuit_checkpoint(Task(13, train_fraction=0.3), [], lookup=LookupTable(8))
    result = frequency_ablation.measure(checkpoint)
    assert not result.is_key.any()
    assert result.sel(mode=list(frequency_ablation.RANDOM)).loss.isnull().all()


@pytest.mark.parametrize("target", frequency_ablation.TARGETS)
def test_renamed_phases_change_nothing(target: str) -> None:
    """a − b is a + (−b), and a·b modulo 11 is addition modulo 10 of the logarithms: one planted circuit, one null. (Of
    ×, the eleventh class, 0, is a second thing to lose to: only accuracies are the same.)"""
    neurons = circuit_neurons([1, 3], per_frequency=16, circuit="clock")
    ways = {"add": Task(13), "subtract": Task(13, "subtract"), "add 10": Task(10), "multiply": Task(11, "multiply")}
    found = {
        name: frequency_ablation.measure(circuit_checkpoint(task, neurons), key_frequencies=[1, 3]).sel(
            target=target, split="all"
        )
        for name, task in ways.items()
    }
    assert_allclose(found["subtract"].loss, found["add"].loss, **EXACT)
    random = {"mode": list(frequency_ablation.RANDOM)}
    assert_allclose(found["subtract"].sel(random).accuracy, found["add"].sel(random).accuracy, rtol=0)
    assert_allclose(found["multiply"].sel(random).accuracy, found["add 10"].sel(random).accuracy, rtol=0)
