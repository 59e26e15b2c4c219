"""Names, shapes and initial values of the weights."""

import math

import pytest
import torch

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.models import check_weights, initial_weights, weight_shapes


def is_bias(name: str) -> bool:
    return name.rpartition(".")[2] in ("b_in", "b_out")


@pytest.mark.parametrize("p", [7, 97, 113, 114])
@pytest.mark.parametrize(("prompt", "n_ctx", "d_vocab"), [("ab", 2, 0), ("ab=", 3, 1)])
def test_vocabulary_and_context_follow_from_p_and_prompt(p: int, prompt: str, n_ctx: int, d_vocab: int) -> None:
    shapes = weight_shapes(ModelConfig(d_model=12, n_heads=3, prompt=prompt), p)
    assert shapes["embed.W_E"] == (p + d_vocab, 12)
    assert shapes["pos_embed.W_pos"] == (n_ctx, 12)
    assert shapes["unembed.W_U"] == (12, p)


def test_every_layer_has_its_weights_in_the_classic_orientation() -> None:
    shapes = weight_shapes(ModelConfig(n_layers=2, d_model=12, n_heads=3, d_head=5, d_mlp=20), 7)
    assert len(shapes) == 3 + 2 * 8
    for layer in range(2):
        block = {
            name.removeprefix(f"blocks.{layer}."): shape
            for name, shape in shapes.items()
            if name.startswith(f"blocks.{layer}.")
        }
        assert block == {
            "attn.W_Q": (3, 12, 5),
            "attn.W_K": (3, 12, 5),
            "attn.W_V": (3, 12, 5),
            "attn.W_O": (3, 5, 12),
            "mlp.W_in": (12, 20),
            "mlp.b_in": (20,),
            "mlp.W_out": (20, 12),
            "mlp.b_out": (12,),
        }


def test_the_canonical_network_has_226_688_parameters() -> None:
    """(p+1)·d + 3·d + 4·d² + 2·d·m + m + d + d·p for p = 113, d = 128, m = 512."""
    p, d, m = 113, 128, 512
    count = sum(weight.numel() for weight in initial_weights(ModelConfig(), p).values())
    assert count == (p + 1) * d + 3 * d + 4 * d * d + 2 * d * m + m + d + d * p == 226_688


def test_initial_variances() -> None:
    """‖W‖² is its number of entries times their variance, within five standard deviations, √(2/entries) of it each."""
    p = 113
    weights = initial_weights(ModelConfig(), p)
    # 1/d_model everywhere makes these the sizes of the other axes; W_U alone has 1/d_vocab.
    expected = {"embed.W_E": 114, "pos_embed.W_pos": 3, "unembed.W_U": 128 * 113 / 114}
    expected |= {f"blocks.0.attn.{name}": 128 for name in ("W_Q", "W_K", "W_V", "W_O")}
    expected |= {"blocks.0.mlp.W_in": 512, "blocks.0.mlp.W_out": 512}
    for name, square in expected.items():
        entries = weights[name].double()
        assert entries.square().sum().item() == pytest.approx(square, rel=5 * math.sqrt(2 / entries.numel()))
        assert abs(entries.mean()) < 5 * entries.std() / math.sqrt(entries.numel())
    assert sum(expected.values()) == pytest.approx(1781 - 128 / 114)
    assert {name for name in weights if name not in expected} == {"blocks.0.mlp.b_in", "blocks.0.mlp.b_out"}
    assert not any(weights[name].any() for name in weights if is_bias(name))


def test_a_seed_names_the_weights_and_disturbs_no_other_generator() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (initial_weights(ModelConfig(d_model=8, d_mlp=16, seed=seed), 7) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(first) == list(weight_shapes(ModelConfig(d_model=8, d_mlp=16), 7))
    for name, weight in first.items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, again[name])
        assert is_bias(name) or not torch.equal(weight, other[name])
    assert not torch.equal(first["blocks.0.attn.W_Q"], first["blocks.0.attn.W_K"])


MODEL = ModelConfig(d_model=8, n_heads=2, d_mlp=16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_weights_of_a_model_pass(dtype: torch.dtype) -> None:
    check_weights({name: weight.to(dtype) for name, weight in initial_weights(MODEL, 7).items()}, MODEL, 7)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("embed.W_E", None, r"run/step_3: tensor 'embed.W_E' \[8, 8\] is missing"),
        ("embed.W_E", torch.zeros(7, 8), r"run/step_3: tensor 'embed.W_E' has shape \[7, 8\], expected \[8, 8\]"),
        ("blocks.0.mlp.b_in", torch.zeros(16, 1), r"'blocks.0.mlp.b_in' has shape \[16, 1\], expected \[16\]"),
        (
            "unembed.W_U",
            torch.zeros(8, 7, dtype=torch.int64),
            "'unembed.W_U' has type torch.int64, expected a floating-point type",
        ),
        (
            "unembed.W_U",
            torch.zeros(8, 7, dtype=torch.float64),
            "'unembed.W_U' has type torch.float64, the first has torch.float32; use one",
        ),
        ("unembed.b_U", torch.zeros(7), r"unexpected tensor 'unembed.b_U' \[7\]; this model has embed.W_E, "),
    ],
)
def test_other_weights_are_refused_by_name_and_shape(name: str, tensor: torch.Tensor | None, message: str) -> None:
    weights = initial_weights(MODEL, 7)
    weights = {key: value for key, value in weights.items() if key != name} | ({} if tensor is None else {name: tensor})
    with pytest.raises(InputError, match=message) as caught:
        check_weights(weights, MODEL, 7, where="run/step_3")
    assert "\n" not in str(caught.value)
