"""Other people's MLPs with several hidden layers: told by their chain of matrices, and proved."""

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from interp.errors import InputError
from interp.experiment import ModelConfig
from interp.interchange.importing import import_run
from interp.interchange.layouts.mlp_roles import is_mlp, mlp_pieces
from interp.models import Weights, initial_weights

P, WIDTH = 7, 24
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
NAMES = ("in", "1", "out")
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


def trained(activation: str, n_layers: int, *, inputs: str = "concatenated", bias: bool = True) -> nn.Sequential:
    """A network of torch's that answers all sums."""
    x = torch.eye(P)[PAIRS]
    x = x.sum(1) if inputs == "sum" else x.flatten(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for size, width in itertools.pairwise((x.shape[1], *[WIDTH] * n_layers)):
            layers += [nn.Linear(size, width, bias=bias), ACTIVATIONS[activation]()]
        net = nn.Sequential(*layers, nn.Linear(WIDTH, P, bias=bias))
    labels, optimizer = PAIRS.sum(1) % P, torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(800):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        if loss < 3e-4:
            break
    assert (net(x).argmax(1) == labels).all()
    return net


@pytest.mark.parametrize(
    ("activation", "n_layers", "inputs", "bias"),
    [
        ("relu", 2, "concatenated", True),
        ("tanh", 3, "concatenated", True),
        ("gelu", 2, "sum", False),
        ("tanh", 2, "sum", True),
    ],
)
def test_a_sequential_of_torch_is_read_and_proved(
    activation: str, n_layers: int, inputs: str, bias: bool, tmp_path: Path
) -> None:
    net = trained(activation, n_layers, inputs=inputs, bias=bias)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    # Whether it is relu or another is not always told by answers: it is given where they leave it open.
    run = import_run(tmp_path / "net.pt", tmp_path / "run", model={"activation": activation})
    expected = ModelConfig(
        family="mlp", n_layers=n_layers, d_mlp=WIDTH, activation=activation, inputs=inputs, biases=bias
    )
    assert run.model == expected
    assert run.info["imported"]["proof"]["verified"]
    assert run.last.accuracy("all") == 1
    linears = [layer for layer in net if isinstance(layer, nn.Linear)]
    middle = [f"mlp.W_{layer}" for layer in range(1, n_layers)]
    for name, layer in zip(("mlp.W_in", *middle, "mlp.W_out"), linears, strict=True):
        assert torch.equal(run.last.weights[name], layer.weight.T)
        if bias:
            assert torch.equal(run.last.weights[name.replace("W", "b")], layer.bias)


def test_tanh_is_found_by_running_where_answers_tell_it(tmp_path: Path) -> None:
    torch.save(trained("tanh", 3).state_dict(), tmp_path / "net.pt")
    run = import_run(tmp_path / "net.pt", tmp_path / "run")
    assert run.model.activation == "tanh"


def test_our_own_names_come_back(tmp_path: Path) -> None:
    net, names = trained("relu", 2), ("mlp.W_in", "mlp.W_1", "mlp.W_out")
    weights: Weights = {}
    for name, layer in zip(names, (layer for layer in net if isinstance(layer, nn.Linear)), strict=True):
        weights |= {name: layer.weight.detach().T.contiguous(), name.replace("W", "b"): layer.bias.detach()}
    save_file(weights, tmp_path / "net.safetensors")
    run = import_run(tmp_path / "net.safetensors", tmp_path / "run")
    assert run.model.n_layers == 2
    assert all(torch.equal(run.last.weights[name], weight) for name, weight in weights.items())


def test_a_mapping_file_names_hidden_layers(tmp_path: Path) -> None:
    net = trained("relu", 2)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    parts = [
        f'"{2 * place}.weight" = {{ to = "mlp.W_{name}", pattern = "o i -> i o" }}' for place, name in enumerate(NAMES)
    ]
    parts += [f'"{2 * place}.bias" = {{ to = "mlp.b_{name}" }}' for place, name in enumerate(NAMES)]
    text = "\n".join(['family = "mlp"', "[tensors]", *parts])
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(InputError, match=r"the pattern of '0.weight' makes \[i o\], and mlp.W_in is \[inputs d_mlp\]"):
        import_run(tmp_path / "net.pt", tmp_path / "run", mapping=tmp_path / "wrong.toml")
    for axes in ("inputs d_mlp", "below d_mlp", "d_mlp features"):
        turned = " ".join(reversed(axes.split()))
        text = text.replace("o i -> i o", f"{turned} -> {axes}", 1)
    (tmp_path / "right.toml").write_text(text)
    run = import_run(tmp_path / "net.pt", tmp_path / "run", mapping=tmp_path / "right.toml")
    assert torch.equal(run.last.weights["mlp.W_1"], net[2].get_parameter("weight").T)
    (tmp_path / "other.toml").write_text(text.replace("mlp.W_1", "mlp.W_x"))
    with pytest.raises(InputError, match=r"unknown name to map '2.weight' to 'mlp.W_x'; did you mean 'mlp.W_1'"):
        import_run(tmp_path / "net.pt", tmp_path / "again", mapping=tmp_path / "other.toml")


# ---- which matrices are a chain --------------------------------------------------------------------------------------


def state(*sizes: int, bias: bool = True, every: int = 2) -> Weights:
    """A state dict of linear layers of these sizes, in the order in which safetensors has names."""
    layers = {f"{every * place}": nn.Linear(*pair, bias=bias) for place, pair in enumerate(itertools.pairwise(sizes))}
    return dict(sorted(nn.ModuleDict(layers).state_dict().items()))


def test_ten_comes_after_two() -> None:
    tensors = state(2 * P, *[WIDTH] * 6, P)
    assert list(tensors)[:4] == ["0.bias", "0.weight", "10.bias", "10.weight"]
    assert is_mlp(tensors)
    found = {ours: piece.theirs[0] for ours, piece in mlp_pieces(tensors).items()}
    layers = ["in", "1", "2", "3", "4", "5", "out"]
    assert found == {
        f"mlp.{kind}_{layer}": f"{2 * place}.{name}"
        for place, layer in enumerate(layers)
        for kind, name in (("W", "weight"), ("b", "bias"))
    }


@pytest.mark.parametrize(
    ("tensors", "is_deep"),
    [
        (state(P, WIDTH, WIDTH, P, bias=False), True),  # something stands between its layers
        (state(P, WIDTH, WIDTH, P, bias=False, every=1), False),  # the first may be an embedding
        (state(2 * P, WIDTH, WIDTH, P, bias=False, every=1), True),  # which has no rows for b
        (state(P, WIDTH, WIDTH, P, every=1), True),  # nor a bias
    ],
)
def test_the_first_of_three_may_be_an_embedding(tensors: Weights, is_deep: bool) -> None:
    assert ("mlp.W_1" in mlp_pieces(tensors)) == is_deep


def test_layers_of_different_widths_are_none_of_ours() -> None:
    with pytest.raises(
        InputError, match="hidden layers of 24, 25 neurons, and those of our models are as wide as each"
    ):
        mlp_pieces(state(2 * P, WIDTH, WIDTH + 1, P))


def test_a_residual_around_hidden_layers_is_refused(tmp_path: Path) -> None:
    model = ModelConfig(family="mlp", n_layers=3, d_mlp=WIDTH, inputs="concatenated")
    weights = {name: weight.requires_grad_() for name, weight in initial_weights(model, P).items()}
    x, labels = torch.eye(P)[PAIRS].flatten(1), PAIRS.sum(1) % P
    optimizer = torch.optim.Adam(weights.values(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        y = (x @ weights["mlp.W_in"]).relu()
        for name in ("mlp.W_1", "mlp.W_2"):
            y = y + (y @ weights[name]).relu()
        loss = nn.functional.cross_entropy(y @ weights["mlp.W_out"], labels)
        loss.backward()
        optimizer.step()
        if loss < 3e-4:
            break
    torch.save({name: weight.detach() for name, weight in weights.items()}, tmp_path / "net.pt")
    with pytest.raises(InputError, match="a residual around its hidden layers"):
        import_run(tmp_path / "net.pt", tmp_path / "run")
