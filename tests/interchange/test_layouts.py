"""Every layout there and back, bit for bit; recognition by names and shapes; mapping files."""

import re
import tomllib
from pathlib import Path

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.layouts.mapping import mapping_to_fill_in, read_mapping
from interp.interchange.layouts.matching import Match, Mismatch, converted, match, recognize, split_axes, unify, written
from interp.interchange.layouts.tables import LAYOUTS, Layout, Rule, check_pattern
from interp.models import Weights, initial_weights

TRANSFORMERS = [layout for layout in LAYOUTS.values() if layout.family == "transformer"]
MLPS = [layout for layout in LAYOUTS.values() if layout.family == "mlp"]


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def sizes_of(model: ModelConfig) -> dict[str, int]:
    return {"n_layers": model.n_layers, "n_heads": model.n_heads, "d_head": model.head_size}


def there_and_back(layout: Layout, weights: Weights, sizes: dict[str, int]) -> None:
    foreign = written(layout, weights, sizes)
    known = {"n_heads": sizes["n_heads"]} if "n_heads" in layout.asks else {}
    found = match(layout, shapes_of(foreign), known)
    assert isinstance(found, Match), found
    assert found.left_over == ()
    back = converted(found, foreign)
    assert back.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(back[name].view(torch.int32), weight.view(torch.int32)), name
        assert back[name].is_contiguous()


SIZES = st.fixed_dictionaries(
    {
        "n_layers": st.integers(1, 3),
        "d_model": st.integers(1, 9),
        "n_heads": st.integers(1, 4),
        "d_head": st.integers(1, 5),
        "d_mlp": st.integers(1, 9),
        "prompt": st.sampled_from(["ab", "ab="]),
        "seed": st.integers(0, 1000),
    }
)


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("layout", TRANSFORMERS, ids=lambda layout: layout.name)
@given(sizes=SIZES, p=st.integers(2, 11))
def test_transformers_there_and_back(layout: Layout, sizes: dict, p: int):
    model = ModelConfig(**sizes)
    weights = initial_weights(model, p)
    generator = torch.Generator().manual_seed(model.seed)
    weights |= {name: torch.randn(weights[name].shape, generator=generator) for name in weights if ".b_" in name}
    weights["embed.W_E"][0, 0] = torch.nan  # bits, not numbers
    weights["unembed.W_U"][0, 0] = -0.0
    there_and_back(layout, weights, sizes_of(model))


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("layout", MLPS, ids=lambda layout: layout.name)
@given(
    p=st.integers(2, 9),
    d_mlp=st.integers(1, 9),
    inputs=st.sampled_from(["sum", "concatenated"]),
    embedding=st.sampled_from(["none", "tied", "untied"]),
)
def test_one_hidden_layer_there_and_back(layout: Layout, p: int, d_mlp: int, inputs: str, embedding: str):
    if layout.name == "mlp-input-first":
        embedding = "none"
    size = {"d_model": 3} if embedding != "none" else {}
    model = ModelConfig(family="mlp", d_mlp=d_mlp, inputs=inputs, embedding=embedding, **size)
    there_and_back(layout, initial_weights(model, p), {"n_layers": 1, "n_heads": 1, "d_head": 1})


def test_nandas_orientation_by_hand():
    """The rearrangement, spelled out in indices."""
    model = ModelConfig(d_model=6, n_heads=2, d_head=3, d_mlp=5)
    ours = initial_weights(model, 7)
    theirs = written(LAYOUTS["nanda"], ours, sizes_of(model))
    W_O = ours["blocks.0.attn.W_O"]
    assert theirs["embed.W_E"].shape == (6, 8)
    for head in range(2):
        assert torch.equal(theirs["blocks.0.attn.W_Q"][head], ours["blocks.0.attn.W_Q"][head].T)
        for e in range(3):
            assert torch.equal(theirs["blocks.0.attn.W_O"][:, head * 3 + e], W_O[head, e])
    assert torch.equal(theirs["unembed.W_U"], ours["unembed.W_U"])
    assert torch.equal(theirs["pos_embed.W_pos"], ours["pos_embed.W_pos"])


def test_linear_layers_compute_the_same():
    """x W_Q^h of every head is what nn.Linear makes of x."""
    model = ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5)
    ours = initial_weights(model, 7)
    theirs = written(LAYOUTS["pytorch-linear"], ours, sizes_of(model))
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    query = torch.nn.functional.linear(x, theirs["blocks.0.attn.W_Q.weight"])
    torch.testing.assert_close(
        rearrange(query, "n (h e) -> n h e", h=2), torch.einsum("nd,hde->nhe", x, ours["blocks.0.attn.W_Q"])
    )
    torch.testing.assert_close(
        torch.nn.functional.linear(x, theirs["blocks.0.mlp.W_in.weight"]), x @ ours["blocks.0.mlp.W_in"]
    )
    torch.testing.assert_close(torch.nn.functional.linear(x, theirs["unembed.weight"]), x @ ours["unembed.W_U"])


def test_native_names_are_those_of_transformer_lens():
    from interp.models import bridge

    model = ModelConfig(d_model=6, n_heads=2, d_mlp=5)
    ours = initial_weights(model, 7)
    theirs = bridge(ours, model).state_dict()
    found = match(LAYOUTS["transformer-lens-native"], shapes_of(theirs), {"n_heads": 2})
    assert isinstance(found, Match)
    assert found.left_over == ()
    back = converted(found, theirs)
    for name, weight in ours.items():
        assert torch.equal(back[name], weight), name
    assert all(not back[name].any() for name in back.keys() - ours.keys())


# ---- recognition -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", TRANSFORMERS, ids=lambda layout: layout.name)
def test_shapes_tell_the_layouts_apart(layout: Layout):
    model = ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5)
    foreign = written(layout, initial_weights(model, 7), sizes_of(model))
    found = recognize(shapes_of(foreign), known={"n_heads": 2})
    assert [entry.layout.name for entry in found if not entry.left_over] == [found[0].layout.name] == [layout.name]


def test_a_square_network_is_ambiguous():
    model = ModelConfig(d_model=8, n_heads=1, d_head=8, d_mlp=8)
    foreign = written(LAYOUTS["nanda"], initial_weights(model, 7), sizes_of(model))
    with_equals = {found.layout.name for found in recognize(shapes_of(foreign)) if not found.left_over}
    assert with_equals == {"nanda"}  # W_O has other axes
    mlp = written(LAYOUTS["mlp-input-last"], initial_weights(ModelConfig(family="mlp", d_mlp=8), 7), {"n_layers": 1})
    assert {found.layout.name for found in recognize(shapes_of(mlp))} == {"mlp-input-last", "mlp-input-first"}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.transformer."])
def test_a_prefix_of_all_names_is_no_obstacle(prefix: str):
    model = ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5)
    foreign = {
        prefix + name: weight
        for name, weight in written(LAYOUTS["nanda"], initial_weights(model, 7), sizes_of(model)).items()
    }
    found, *_ = recognize(shapes_of(foreign))
    assert converted(found, foreign).keys() == initial_weights(model, 7).keys()


def test_a_single_layer_needs_no_number():
    names = ["token_embed.weight", "pos_embed.weight", "unembed.weight", "mlp.fc1.weight", "mlp.fc2.weight"]
    shapes = dict(zip(names, [(8, 6), (3, 6), (7, 6), (5, 6), (6, 5)], strict=True))
    shapes |= {f"attn.{name}.weight": (8, 6) for name in ("q_proj", "k_proj", "v_proj")} | {
        "attn.out_proj.weight": (6, 8)
    }
    found, *_ = recognize(shapes, known={"n_heads": 2})
    assert found.layout.name == "pytorch-linear"
    assert found.sizes["d_head"] == 4
    assert found.sizes["d_vocab"] == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"embed.W_E": None}, "embed.W_E is missing"),
        ({"blocks.0.mlp.W_in": (6, 9)}, "W_in"),
        ({"blocks.0.mlp.b_in": (5, 1)}, r"blocks.0.mlp.b_in has shape \[5, 1\], expected \[d_mlp\]"),
        ({"blocks.2.mlp.b_in": (5,)}, "it has layers 0, 2"),
        (
            {"pos_embed.W_pos": (3, 7)},
            r"pos_embed.W_pos has shape \[3, 7\], so d_model would be 7, and it is 6 \(from embed.W_E\)",
        ),
    ],
)
def test_why_a_layout_does_not_fit(change: dict, reason: str):
    model = ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5)
    shapes = shapes_of(written(LAYOUTS["transformer-lens"], initial_weights(model, 7), sizes_of(model))) | change
    outcome = match(LAYOUTS["transformer-lens"], {name: shape for name, shape in shapes.items() if shape is not None})
    assert isinstance(outcome, Mismatch)
    assert re.search(reason, outcome.reason), outcome.reason


def test_products_of_sizes():
    assert unify({"w": ("(h e) d", (12, 5))}, {"h": 3}) == {"h": 3, "e": 4, "d": 5}
    assert unify({"w": ("(h e)", (12,))}, {}) == {}
    with pytest.raises(InputError, match="w has an axis of 12"):
        unify({"w": ("(h e)", (12,))}, {"h": 5})
    assert split_axes("a (b c) d") == [["a"], ["b", "c"], ["d"]]


@pytest.mark.parametrize(
    "pattern", ["a b", "a b -> a", "a a -> a a", "a b -> b c", "a 1 ... -> a", "a b -> b a -> a b"]
)
def test_a_pattern_that_cannot_be(pattern: str):
    with pytest.raises(InputError, match="must have the same axes"):
        check_pattern(pattern)


# ---- mapping files ---------------------------------------------------------------------------------------------------


def test_a_mapping_file_is_a_layout(tmp_path: Path):
    model = ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5)
    ours = initial_weights(model, 7)
    classic = match(LAYOUTS["transformer-lens"], shapes_of(ours))
    assert isinstance(classic, Match)
    text = mapping_to_fill_in(
        shapes_of(ours), {entry.theirs: Rule(name, entry.rule.pattern) for name, entry in classic.tensors.items()}
    )
    path = tmp_path / "mapping.toml"
    path.write_text(text.replace('"d_model d_mlp -> d_model d_mlp"', '"d_mlp d_model -> d_model d_mlp"'))
    mapped = read_mapping(path)
    foreign = ours | {"blocks.0.mlp.W_in": ours["blocks.0.mlp.W_in"].T.contiguous()}
    found = match(mapped.layout, shapes_of(foreign))
    assert isinstance(found, Match), found
    for name, weight in converted(found, foreign).items():
        assert torch.equal(weight, ours[name])


def test_an_axis_of_one_is_left_out(tmp_path: Path):
    """A positional embedding is often kept as [1, n_ctx, d_model]."""
    weights = initial_weights(ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5), 7)
    text = mapping_to_fill_in(
        shapes_of(weights), {name: Rule(name, f"{axes} -> {axes}") for name, axes in our_axes_of(weights).items()}
    )
    (tmp_path / "mapping.toml").write_text(text.replace('"n_ctx d_model ->', '"1 n_ctx d_model ->'))
    mapped = read_mapping(tmp_path / "mapping.toml")
    foreign = weights | {"pos_embed.W_pos": weights["pos_embed.W_pos"][None]}
    found = match(mapped.layout, shapes_of(foreign))
    assert isinstance(found, Match), found
    assert torch.equal(converted(found, foreign)["pos_embed.W_pos"], weights["pos_embed.W_pos"])
    outcome = match(
        mapped.layout, shapes_of(weights | {"pos_embed.W_pos": weights["pos_embed.W_pos"][None].repeat(2, 1, 1)})
    )
    assert isinstance(outcome, Mismatch)
    assert outcome.reason == "pos_embed.W_pos has an axis of 2, expected 1, and 1 is no factor that fits"


def our_axes_of(weights: Weights) -> dict[str, str]:
    classic = match(LAYOUTS["transformer-lens"], shapes_of(weights))
    assert isinstance(classic, Match)
    return {name: entry.rule.pattern.split(" ->")[0] for name, entry in classic.tensors.items()}


def test_a_mapping_file_to_fill_in_is_of_the_family_that_it_looks_like():
    one_layer = mapping_to_fill_in({"first.weight": (16, 7), "second.weight": (7, 16)}, {})
    assert tomllib.loads(one_layer)["family"] == "mlp"
    assert "mlp.W_out              d_mlp features" in one_layer
    recognized = mapping_to_fill_in({"fc1.weight": (16, 7)}, {"fc1.weight": Rule("blocks.0.mlp.W_in", "a b -> b a")})
    assert tomllib.loads(recognized)["family"] == "transformer"
    assert (
        tomllib.loads(mapping_to_fill_in({f"{number}.weight": (8, 8) for number in range(9)}, {}))["family"]
        == "transformer"
    )


def test_any_name_can_stand_in_a_mapping_file():
    names = ["\u00e9\U0001f600", 'quote " and \\', "line\nbreak\x7f\u202e"]
    text = mapping_to_fill_in(dict.fromkeys(names, (2, 2)), {name: Rule("mlp.W_in", "a b -> a b") for name in names})
    assert list(tomllib.loads(text)["tensors"]) == names


def test_a_position_embedding_may_be_a_bare_parameter():
    model = ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5)
    foreign = written(LAYOUTS["pytorch-linear"], initial_weights(model, 7), sizes_of(model))
    foreign["pos_embed"] = foreign.pop("pos_embed.weight")
    found, *_ = recognize(shapes_of(foreign), known={"n_heads": 2})
    assert (found.layout.name, found.left_over) == ("pytorch-linear", ())


def test_what_was_found_of_a_layout_keeps_its_prefix():
    weights = initial_weights(ModelConfig(d_model=6, n_heads=2, d_head=4, d_mlp=5), 7)
    shapes = {f"net.{name}": shape for name, shape in shapes_of(weights).items() if name != "unembed.W_U"}
    outcome = match(LAYOUTS["transformer-lens"], shapes)
    assert isinstance(outcome, Mismatch)
    assert outcome.tensors["embed.W_E"].theirs == "net.embed.W_E"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tensors", "is not valid TOML"),
        ('[tensors]\na = { to = "embed.W_E" }', r"\[tensors\] has no entry that maps to 'pos_embed.W_pos'"),
        ('family = "mlp"\n[tensors]\na = { to = "mlp.W_in" }', r"\[tensors\] has no entry that maps to 'mlp.W_out'"),
        ("", r"\[tensors\] must have one entry per tensor"),
        ("tensor = 1", "unknown key of a mapping 'tensor'; did you mean 'tensors'?"),
        ('family = "transformr"', "unknown family 'transformr'; did you mean 'transformer'?"),
        ("drop = 3\n[tensors]\na = 1", "drop must be a list of names, got 3"),
        ("[tensors]\na = 1", "the entry of 'a' must be"),
        ('[tensors]\na = { to = "embed.W_e" }', "unknown name to map 'a' to 'embed.W_e'; did you mean 'embed.W_E'?"),
        ('[tensors]\na = { to = "embed.W_E", pattern = "x y" }', "pattern 'x y' must have the same axes"),
        (
            '[tensors]\na = { to = "embed.W_E", pattern = "d_model d_vocab -> d_model d_vocab" }',
            r"makes \[d_model d_vocab\], and embed.W_E is",
        ),
        ('[tensors]\na = { to = "embed.W_E", pattern = 3 }', "the pattern of 'a' must be a text, got 3"),
    ],
)
def test_a_mapping_file_that_cannot_be(text: str, expected: str, tmp_path: Path):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=f"bad.toml.*{expected}"):
        read_mapping(tmp_path / "bad.toml")
