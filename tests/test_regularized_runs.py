"""What is told of a regularized run, from its folder to its explanation, is true of it."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interp.errors import InputError
from interp.experiment import (
    DecayFactors,
    Experiment,
    ModelConfig,
    Norm,
    Regularizers,
    Task,
    TrainingConfig,
)
from interp.experiment.regularizers import group_of
from interp.explanation import explain
from interp.models import weight_shapes
from interp.runs import Run, describe, verify
from interp.sweeps import run_experiment, run_together

SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
WIDE = ModelConfig(d_model=32, n_heads=2, d_mlp=64)
GROUPS = ("embedding", "attention", "mlp", "unembedding")
NOISY = (Regularizers(dropout=0.5), Regularizers(weight_noise=0.1))
STILL = (
    Regularizers(l2=0.01),
    Regularizers(l1=0.01),
    Regularizers(l1=0.01, l1_form="subgradient"),
    Regularizers(gradient_noise=0.1),
    Regularizers(norm="global"),
    Regularizers(norm="tensors"),
)


def trained(path: Path, *, model: ModelConfig = SMALL, steps: int = 20, **training: Any) -> Run:
    """A short run on half of the sums modulo 13."""
    config = TrainingConfig(steps=steps, lr=5e-3, log_every=5, checkpoint_every=20, **training)
    return run_experiment(Experiment(Task(13, train_fraction=0.5), model, config), path / "run")


@pytest.mark.parametrize("one", NOISY + STILL, ids=lambda one: one.in_words)
def test_an_honest_run_contradicts_nothing(one: Regularizers, tmp_path: Path):
    """The recorded gradient norm is that of the gradient that was computed, which with dropout or noise on the weights
    is not that of the weights that are kept: it is said not to be checked, and is checked everywhere else."""
    found = verify(trained(tmp_path, regularizers=one))
    assert found.contradictions == []
    assert any("gradient_norm" in line for line in found.unchecked) == (one in NOISY)


@pytest.mark.parametrize("one", NOISY, ids=lambda one: one.in_words)
def test_the_loss_of_a_noisy_network_is_no_spike(one: Regularizers, tmp_path: Path):
    """The highest loss between two lines is that of another network than the one whose loss is logged."""
    curves = trained(tmp_path, regularizers=one).result("learning_curves")
    assert np.isnan(curves.highest_train_loss.values).all()


def test_without_noise_the_highest_loss_is_told(tmp_path: Path):
    curves = trained(tmp_path, regularizers=Regularizers(l2=0.01)).result("learning_curves")
    assert np.isfinite(curves.highest_train_loss.values).all()


def test_a_run_says_how_its_gradient_was_computed(tmp_path: Path):
    """Dropout has no closed form here, so a factored model is differentiated; what is analyzed is without."""
    one, other = (
        next(line for line in describe(trained(tmp_path / str(share), regularizers=of)) if "computed by" in line)
        for share, of in ((0, Regularizers(weight_noise=0.1)), (0.5, Regularizers(dropout=0.5)))
    )
    assert one == "computed by  factored, closed-form gradient"
    assert other == "computed by  general, autograd (dropout) in training; in analyses factored, closed-form gradient"


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"weight_decay": 0.0, "regularizers": Regularizers(dropout=0.2)}, "there was dropout 0.2."),
        (
            {"decay": DecayFactors(mlp=0)},
            "there was weight decay by group (embedding × 1, attention × 1, mlp × 0, unembedding × 1).",
        ),
    ],
)
def test_what_wears_memory_down_is_not_claimed(training: dict[str, Any], told: str, tmp_path: Path):
    """Dropout without weight decay is a ridge penalty of a linear model, so "nothing wears memory down" would be wrong;
    and with a penalty, a held norm or a decay by group the reason is that, and not an unknown learning rate."""
    text = " ".join(explain(trained(tmp_path, model=WIDE, steps=300, **training)).long.split())
    assert f"What wears memory down cannot be told: beside the loss {told}" in text
    assert "nothing wears memory down" not in text
    assert "are not known, or decay goes through" not in text


def test_without_any_it_is_said_that_nothing_wears_memory_down(tmp_path: Path):
    text = " ".join(explain(trained(tmp_path, model=WIDE, steps=300, weight_decay=0.0)).long.split())
    assert "There is no weight decay, so nothing wears memory down." in text


def test_beside_weight_decay_it_is_said_what_the_part_of_the_loss_contains(tmp_path: Path):
    noisy = trained(tmp_path, model=WIDE, steps=300, regularizers=Regularizers(gradient_noise=1e-4))
    text = " ".join(explain(noisy).long.split())
    assert "With gradient noise 0.0001, from step" in text
    assert "Training had gradient noise 0.0001: what is told of the loss is what the optimizer made of" in text


# ---- factors of weights that are not there -------------------------------------------------------------------------


def models() -> list[ModelConfig]:
    """Both families, with everything that adds or takes a group of weights."""
    norms = (Norm(), Norm(kind="layer"), Norm(kind="rms", learned=False))
    of_tokens = [
        replace(SMALL, tied=tied, biases=b, norm=norm) for tied, b, norm in product((False, True), (False, True), norms)
    ]
    bare, wide = ModelConfig(family="mlp", d_mlp=8), ModelConfig(family="mlp", d_mlp=8, embedding="untied", d_model=8)
    of_pairs = [
        replace(one, biases=biases) for one in (bare, wide, replace(wide, embedding="tied")) for biases in (False, True)
    ]
    return of_tokens + of_pairs


@pytest.mark.parametrize("group", GROUPS)
def test_a_factor_is_refused_exactly_where_no_weight_has_it(group: str):
    task, training = Task(7), TrainingConfig(decay=DecayFactors(**{group: 0.5}))
    seen = set()
    for model in models():
        has_some = group in {group_of(name) for name in weight_shapes(model, 7)}
        seen.add(has_some)
        if has_some:
            assert Experiment(task, model, training).training.decay.is_used
            continue
        with pytest.raises(InputError, match=f"training.decay.{group} does nothing: this model has no weights of"):
            Experiment(task, model, training)
    assert seen == ({True} if group == "mlp" else {True, False})


# ---- where they are not computed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "name"),
    [({"regularizers": Regularizers(l1=0.1)}, "regularizers"), ({"decay": DecayFactors(mlp=0)}, "decay")],
)
def test_a_gpu_is_refused_before_anything_is_written(
    training: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    experiment = Experiment(Task(7), SMALL, TrainingConfig(steps=2, **training))
    refused = f"training.{name} is computed on the cpu, and the device is cuda; leave out one of the two"
    with pytest.raises(InputError, match=refused):
        run_experiment(experiment, tmp_path / "one", device="cuda")
    with pytest.raises(InputError, match=refused):
        run_together([experiment], [tmp_path / "many"], device="cuda")
    assert list(tmp_path.iterdir()) == []
