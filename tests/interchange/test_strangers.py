"""Networks of strangers: imported with nothing said about them, with their own logits; and what is said where one thing
is wrong."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import interp
from interp.cli import main
from interp.errors import InputError
from interp.experiment import Task
from interp.interchange import describe_sources, import_run
from interp.interchange.layouts.matching import written
from interp.interchange.layouts.tables import LAYOUTS
from interp.models import logits
from tests.interchange.strangers import STRANGERS, Stranger, trained


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def saved(name: str) -> tuple[Stranger, nn.Module, dict[str, Tensor]]:
    """The network, and its state dict in the file `net.pt`."""
    net = trained(name)
    state = {key: tensor.detach().clone() for key, tensor in net.state_dict().items()}
    torch.save(state, "net.pt")
    return STRANGERS[name], net, state


def of_model(model: Any, field: str) -> Any:
    for part in field.split("."):
        model = getattr(model, part)
    return model


def power(logits: Tensor, p: int) -> np.ndarray:
    """The power of cos and sin w_k(a+b−c) in a table of logits, for every k, from its mean along a + b − c."""
    a, b = np.divmod(np.arange(p * p), p)
    table = np.zeros(p)
    for pair, row in zip(zip(a, b, strict=True), logits.double().numpy(), strict=True):
        table[(pair[0] + pair[1] - np.arange(p)) % p] += row
    return np.abs(np.fft.rfft(table))[1:] ** 2


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_read_without_a_word(name: str):
    stranger, net, _ = saved(name)
    own = stranger.logits(net)
    assert (own.argmax(1) == stranger.pairs().sum(1) % stranger.p).all()
    run = import_run("net.pt", "run")
    assert run.task == Task(stranger.p, split="unknown")
    assert run.info["imported"]["layout"] == stranger.layout
    assert run.info["imported"]["proof"]["verified"]
    for field, value in stranger.truth:
        assert of_model(run.model, field) == value, field
    ours = logits(run.last.weights, run.model, stranger.pairs())
    # The logits of a softmax are what they are up to one number per pair; here even that is the same.
    assert (ours - own).abs().max() < 1e-5 * own.abs().max()
    ranked = [np.argsort(power(table, stranger.p))[::-1].tolist() for table in (ours, own)]
    assert ranked[0] == ranked[1]


@pytest.mark.parametrize("heads", [8, 2])
@pytest.mark.parametrize("name", ["pre-norm, fused", "TransformerLens, layer norms"])
def test_a_wrong_number_of_heads_is_never_verified(name: str, heads: int):
    saved(name)
    with pytest.raises(InputError) as caught:
        import_run("net.pt", "run", model={"n_heads": heads})
    said = str(caught.value)
    if name.startswith("TransformerLens"):
        assert "model.n-heads" in said or "number of heads" in said
        return
    assert re.search(rf"number of heads {heads} was given, and 4 is better: accuracy 1 and loss ", said), said
    assert not Path("run").exists()


@pytest.mark.parametrize("layout", ["pytorch-linear", "pytorch-joint", "transformer-lens-native"])
@pytest.mark.parametrize(("heads", "beside"), [(8, "1 and 3.2e-06"), (2, r"0\.\d+ and ")])
def test_four_heads_read_with_another_number_are_refused_in_a_known_layout(layout: str, heads: int, beside: str):
    """Its answers are all right with eight heads too: only the loss tells, 8.6e-7 beside 3.2e-6."""
    weights = interp.open_run(interp.reference_path())[3000].weights
    torch.save(written(LAYOUTS[layout], weights, {"n_layers": 1, "n_heads": 4, "d_head": 8}), "net.pt")
    expected = rf"number of heads {heads} was given, and 4 is better: accuracy 1 and loss 8.6e-07, beside {beside}"
    with pytest.raises(InputError, match=expected):
        import_run("net.pt", "run", model={"n_heads": heads})
    run = import_run("net.pt", "run")
    assert run.model.n_heads == 4
    assert run.info["imported"]["layout"] == layout


def test_q_and_k_in_the_wrong_order_are_found_and_said():
    _, _, state = saved("pre-norm, fused")
    q, k, v = state["attn.qkv.weight"].chunk(3)
    torch.save(state | {"attn.qkv.weight": torch.cat([k, q, v])}, "net.pt")
    run = import_run("net.pt", "run")
    notes = [note for note in run.info["imported"]["notes"] if note.startswith("order of q, k and v")]
    assert len(notes) == 1
    assert re.fullmatch(
        r"order of q, k and v: kqv thirds, found by running; with qkv thirds it answers \d+\.\d%", notes[0]
    )


@pytest.mark.parametrize(
    ("name", "line", "wrong", "expected"),
    [
        ("encoder, post-norm", 'norm_order = "post"', 'norm_order = "pre"',
         r"norms before \(pre\) or after \(post\) pre was given, and post is better: accuracy 1 and loss"),
        ("Power et al.", "constants = [0, 2, 1]", "constants = [1, 2, 0]",
         r"prompt '\^a\+b=', '\^' is token 1 and .* was given, and '\^a\+b=', '\^' is token 0 and .* is better"),
        ("LLaMA", 'rotary_planes = "halves"', 'rotary_planes = "neighbors"',
         r"positions rotary, base 10000, neighbors was given, and rotary, base 10000, halves is better"),
        ("encoder, pre-norm, two layers", "causal = false", "causal = true", r"causal yes was given, and no is better"),
    ],
)  # fmt: skip
def test_one_wrong_word_in_a_mapping_file_is_refused(name: str, line: str, wrong: str, expected: str):
    saved(name)
    text = describe_sources("net.pt").mapping
    assert line in text
    Path("mapping.toml").write_text(text.replace(line, wrong))
    with pytest.raises(InputError, match=expected):
        import_run("net.pt", "run", mapping="mapping.toml")


def test_a_wrong_cut_in_a_mapping_file_is_refused():
    saved("fused by head")
    text = describe_sources("net.pt").mapping
    assert text.count("(n_heads part d_head)") == 3
    Path("mapping.toml").write_text(text.replace("(n_heads part d_head)", "(part n_heads d_head)"))
    with pytest.raises(InputError, match=r"cannot be told from its answers|cannot be verified"):
        import_run("net.pt", "run", mapping="mapping.toml")


@pytest.mark.parametrize("name", ["fused by head", "LLaMA", "Power et al."])
def test_a_dry_run_writes_a_mapping_file_that_reads_the_same(name: str, capsys: pytest.CaptureFixture[str]):
    saved(name)
    assert main(["import", "net.pt", "--dry-run", "--write-mapping", "mapping.toml"]) == 0
    assert "proved: accuracy 1, loss " in capsys.readouterr().out
    assert not Path("run").exists()
    one, other = import_run("net.pt", "one"), import_run("net.pt", "other", mapping="mapping.toml")
    assert one.model == other.model
    assert all(torch.equal(weight, other.last.weights[name]) for name, weight in one.last.weights.items())


def test_damage_is_refused():
    _, _, state = saved("pre-norm, fused")
    torch.save(state | {"attn.proj.weight": state["attn.proj.weight"].flip(0)}, "net.pt")
    with pytest.raises(InputError, match=r"other readings were run, and none of these is better"):
        import_run("net.pt", "run")
    torch.save(state | {"attn.proj.weight": torch.zeros(32, 32)}, "net.pt")
    with pytest.raises(InputError, match=r"or damage: blocks.0.attn.W_O hold nothing but zeros"):
        import_run("net.pt", "run")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"attn.q_norm.weight": (8,)}, r"a norm of queries or keys \('attn.q_norm.weight'\)"),
        (
            {"attn.relative_position_bias_table": (5, 4)},
            r"a relative position bias \('attn.relative_position_bias_table'\)",
        ),
        (
            {"ln3.weight": (32,), "ln4.weight": (32,)},
            r"tensors? without a part \('ln\d.weight' \[32\]|'ln\d.weight' \[32\]",
        ),
    ],
)
def test_a_part_that_our_models_lack_is_named(more: dict[str, tuple[int, ...]], expected: str):
    _, _, state = saved("pre-norm, fused")
    torch.save(state | {name: torch.randn(shape) for name, shape in more.items()}, "net.pt")
    with pytest.raises(InputError, match=expected) as caught:
        import_run("net.pt", "run")
    assert "nearest" not in str(caught.value)
    assert main(["import", "net.pt", "--dry-run"]) == 2


def test_early_checkpoints_are_read_as_the_last_one():
    """At step 0 the biases of nn.MultiheadAttention are zero, and the network is the same all the same."""
    stranger, _net, state = saved("encoder, post-norm")
    torch.manual_seed(0)
    Path("net.pt").unlink()
    torch.save(stranger.build(stranger.p).state_dict(), "0.pt")
    torch.save(state, "400.pt")
    run = import_run(["0.pt", "400.pt"], "run")
    assert run.steps == [0, 400]
    assert run[0].weights["blocks.0.attn.b_Q"].shape == (4, 8)
    assert not run[0].weights["blocks.0.attn.b_Q"].any()


def test_a_tied_unembedding_that_is_only_listed_is_taken(tmp_path: Path):
    """What safetensors writes for tied weights: the name of the other in the metadata, and no tensor."""
    stranger, net, state = saved("nanoGPT")
    del state["lm_head.weight"]
    torch.save(state, "net.pt")
    run = import_run("net.pt", "run")
    assert run.model.tied
    assert "there is no unembedding: it is tied to the embedding, W_U = W_E turned" in run.info["imported"]["notes"]
    ours = logits(run.last.weights, run.model, stranger.pairs())
    torch.testing.assert_close(ours, stranger.logits(net), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"task": {"p": 10}}, {"model": {"prompt": "ab"}}])
def test_a_wrong_modulus_or_prompt_is_named(wrong: dict[str, dict[str, Any]]):
    saved("pre-norm, fused")
    expected = r"prompt '.+ was given, and 'ab=', '=' is token 11 modulo 11 is better: accuracy 1 and loss .+ what was "
    with pytest.raises(InputError, match=expected):
        import_run("net.pt", "run", **wrong)


def test_what_an_mlp_reads_is_refused_for_a_transformer():
    saved("pre-norm, fused")
    with pytest.raises(InputError, match=r"model.inputs 'sum' is of an MLP, and the tensors are of a transformer"):
        import_run("net.pt", "run", model={"inputs": "sum"})


def test_a_near_miss_shows_what_was_found_and_a_file_that_only_drops_is_enough():
    _, _, state = saved("pre-norm, fused")
    torch.save(state | {"extra.table": torch.randn(5, 7)}, "net.pt")
    said = describe_sources("net.pt")
    assert not said.fits
    assert (
        "'attn.proj.weight' [32, 32]: blocks.0.attn.W_O, d_model (n_heads d_head) -> n_heads d_head d_model"
        in said.text
    )
    assert "'extra.table' [5, 7]: no part" in said.text
    Path("drop.toml").write_text('drop = ["extra.table"]\n')
    assert import_run("net.pt", "run", mapping="drop.toml").info["imported"]["layout"] == "inferred"
    # What was found is a mapping file already.
    Path("mapping.toml").write_text('drop = ["extra.table"]\n' + said.mapping.replace("drop = []\n", ""))
    assert import_run("net.pt", "other", mapping="mapping.toml").info["imported"]["proof"]["verified"]
    Path("heads.toml").write_text('drop = ["extra.table"]\n[model]\nn_heads = 8\n')
    with pytest.raises(InputError, match=r"number of heads 8 was given, and 4 is better"):
        import_run("net.pt", "wrong", mapping="heads.toml")


@pytest.mark.parametrize("names", [("weight_g", "weight_v"), ("parametrizations.weight.original{}",) * 2])
def test_weight_norm_is_taken_apart(names: tuple[str, str]):
    _, _, state = saved("pre-norm, fused")
    W = state.pop("mlp.0.weight")
    g, v = (f"mlp.0.{name.format(at)}" for at, name in enumerate(names))
    torch.save(state | {g: W.norm(dim=1, keepdim=True), v: 3 * W}, "net.pt")
    run = import_run("net.pt", "run")
    torch.testing.assert_close(run.last.weights["blocks.0.mlp.W_in"], W.T)
    assert f"'mlp.0.weight' is g·v/‖v‖ of {g!r} and {v!r} (weight norm)" in run.info["imported"]["notes"]
