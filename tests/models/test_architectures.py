"""What a transformer can have besides the plain one, against PyTorch's own modules, and by what must not matter."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from interp.errors import InputError
from interp.experiment import (
    Attention,
    Experiment,
    Mlp,
    ModelConfig,
    Norm,
    Task,
    TrainingConfig,
    section_from_dict,
)
from interp.models import (
    Weights,
    embed,
    forward_all,
    initial_weights,
    is_factored,
    logits,
    logits_with_vectors,
    matrices,
    one_layer,
    residual_post,
    transform,
    weight_shapes,
)
from interp.training import train

P = 7
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))
SMALL = ModelConfig(d_model=8, n_heads=2, d_mlp=12)
LAYER, RMS = Norm(kind="layer"), Norm(kind="rms")


def drawn(model: ModelConfig, p: int = P, seed: int = 1) -> Weights:
    """Weights that are all different from their neutral values, float64."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (name.endswith(".w") + 0.5 * torch.randn(shape, generator=generator)).double()
        for name, shape in weight_shapes(model, p).items()
    }


def prompts(model: ModelConfig) -> Tensor:
    b = P if model.vocabularies == "two" else 0
    numbers = {token: b + P + place for place, token in enumerate(model.constants)}
    columns = {"a": PAIRS[:, 0], "b": PAIRS[:, 1] + b}
    return torch.stack([columns.get(t, torch.full((P * P,), numbers.get(t, -1))) for t in model.prompt], dim=1)


class Theirs(nn.Module):
    """The same network out of PyTorch's modules: nn.MultiheadAttention, nn.LayerNorm, nn.RMSNorm, nn.Linear."""

    def __init__(self, model: ModelConfig, weights: Weights) -> None:
        super().__init__()
        self.model, self.weights = model, weights

    def norm(self, name: str) -> nn.Module:
        kind, d, w = self.model.norm, self.model.d_model, self.weights
        module = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[kind.kind](
            d, eps=kind.epsilon, elementwise_affine=kind.learned, dtype=torch.float64
        )
        if kind.learned:
            module.weight.data = w[f"{name}.w"]
            if kind.kind == "layer":
                module.bias.data = w[f"{name}.b"]
        return module

    def attention(self, block: str, x: Tensor) -> Tensor:
        w, d = {name: self.weights[f"{block}.attn.{name}"] for name in ("W_Q", "W_K", "W_V", "W_O")}, self.model.d_model
        module = nn.MultiheadAttention(d, self.model.n_heads, bias=self.model.biases, batch_first=True).double()
        module.in_proj_weight.data = torch.cat(
            [w[name].permute(0, 2, 1).reshape(d, d) for name in ("W_Q", "W_K", "W_V")]
        )
        module.out_proj.weight.data = w["W_O"].reshape(d, d).T
        if self.model.biases:
            names = (f"{block}.attn.{name}" for name in ("b_Q", "b_K", "b_V"))
            module.in_proj_bias.data = torch.cat([self.weights[name].flatten() for name in names])
            module.out_proj.bias.data = self.weights[f"{block}.attn.b_O"]
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if self.model.causal else None
        return module(x, x, x, attn_mask=hidden, need_weights=False)[0]

    def mlp(self, block: str, x: Tensor) -> Tensor:
        w = {name.rpartition(".")[2]: value for name, value in self.weights.items() if name.startswith(f"{block}.mlp")}
        act = {
            "relu": nn.ReLU(),
            "gelu": nn.GELU(),
            "gelu-tanh": nn.GELU("tanh"),
            "silu": nn.SiLU(),
            "square": torch.square,
        }[self.model.activation]
        h = nn.functional.linear(x, w["W_in"].T, w["b_in"])
        neurons = act(nn.functional.linear(x, w["W_gate"].T)) * h if self.model.mlp.gated else act(h)
        return nn.functional.linear(neurons, w["W_out"].T, w["b_out"])

    def forward(self, tokens: Tensor) -> Tensor:
        w, kind = self.weights, self.model.norm
        nothing = nn.Identity()

        def at(place: str, name: str, order: str) -> nn.Module:
            return self.norm(name) if kind.is_at(place) and order in (kind.order, "both") else nothing

        x = nn.functional.embedding(tokens, w["embed.W_E"]) + w["pos_embed.W_pos"]
        for layer in range(self.model.n_layers):
            block = f"blocks.{layer}"
            x = at("attention", f"{block}.ln1", "post")(
                x + self.attention(block, at("attention", f"{block}.ln1", "pre")(x))
            )
            x = at("mlp", f"{block}.ln2", "post")(x + self.mlp(block, at("mlp", f"{block}.ln2", "pre")(x)))
        x = at("final", "ln_final", "both")(x)
        W_U = w["embed.W_E"][:P] if self.model.tied else w["unembed.W_U"].T
        return nn.functional.linear(x, W_U, w.get("unembed.b_U"))[:, self.model.answer_at]


ARCHITECTURES = {
    "pre-norm": {"norm": LAYER},
    "post-norm, no final": {"norm": replace(LAYER, order="post", at=("attention", "mlp"))},
    "post-norm and final": {"norm": replace(LAYER, order="post"), "biases": True},
    "before attention alone": {"norm": replace(LAYER, at=("attention",))},
    "before the MLP alone": {"norm": replace(LAYER, at=("mlp",))},
    "final alone": {"norm": replace(RMS, at=("final",))},
    "not learned": {"norm": replace(LAYER, learned=False), "biases": True},
    "rms": {"norm": replace(RMS, epsilon=1e-3), "mlp": Mlp(gated=True), "activation": "silu"},
    "rms post": {"norm": replace(RMS, order="post"), "activation": "gelu-tanh"},
    "biases": {"biases": True, "activation": "square"},
    "tied": {"tied": True, "norm": LAYER, "prompt": "ab"},
    "tied, biases, two vocabularies": {"tied": True, "biases": True, "vocabularies": "two"},
    "a op b =": {"prompt": "a+b=", "activation": "gelu"},
    "BOS, answers at b": {"prompt": "^ab=", "answer_at": 2, "norm": LAYER},
    "reads from the front": {"prompt": "^ab", "answer_at": 0, "causal": False},
}


@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_network_is_that_of_torchs_modules(fields: dict, n_layers: int) -> None:
    model = replace(SMALL, n_layers=n_layers, **fields)
    weights = drawn(model)
    with torch.no_grad():
        expected = Theirs(model, weights)(prompts(model))
    close = {"rtol": 0, "atol": 1e-11 * expected.abs().max().item()}
    assert_close(logits(weights, model, PAIRS), expected, **close)
    assert_close(forward_all(weights, model, Task(P)).logits.flatten(0, 1), expected, **close)


@pytest.mark.parametrize("rate", [1.0, 0.3])
@pytest.mark.parametrize("fields", [*ARCHITECTURES.values(), {"attention": Attention(rotary_base=9.0), "biases": True}])
def test_one_layer_by_tables_is_the_general_pass(fields: dict, rate: float) -> None:
    """All that a forward pass gives, for some pairs in any order, and with other vectors in place of the residues'."""
    model = replace(SMALL, attention_rate=rate, **fields)
    weights, some = drawn(model), PAIRS[torch.randperm(P * P, generator=torch.Generator().manual_seed(0))[:30]]
    vectors = torch.randn(2, model.first_token_of_b(P) + P, 8, generator=torch.Generator().manual_seed(1)).double()
    for rows in (None, vectors[0]):
        found = one_layer.forward(weights, model, some, rows)
        expected = transform(weights, model, embed(weights, model, some, rows))
        for name, value in expected._asdict().items():
            close = {"rtol": 0, "atol": 1e-12 * max(1.0, value.abs().max().item())}
            assert_close(getattr(found, name), value, **close, msg=lambda text, name=name: f"{name}: {text}")
    with_vectors = logits_with_vectors(weights, model, vectors, some)
    assert_close(with_vectors[0], found.logits, rtol=0, atol=1e-11)


@pytest.mark.parametrize("norm_first", [True, False])
def test_the_network_is_that_of_an_encoder_layer(norm_first: bool) -> None:
    """nn.TransformerEncoderLayer, what many write with: every bias, and no causal mask."""
    norm = replace(LAYER, order="pre" if norm_first else "post", at=("attention", "mlp"))
    model = replace(SMALL, norm=norm, biases=True, causal=False)
    weights = drawn(model)
    theirs = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=norm_first).double()
    w = {name.removeprefix("blocks.0."): weight for name, weight in weights.items()}
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat([w[f"attn.W_{x}"].permute(0, 2, 1).reshape(8, 8) for x in "QKV"]),
            "self_attn.in_proj_bias": torch.cat([w[f"attn.b_{x}"].flatten() for x in "QKV"]),
            "self_attn.out_proj.weight": w["attn.W_O"].reshape(8, 8).T,
            "self_attn.out_proj.bias": w["attn.b_O"],
            "linear1.weight": w["mlp.W_in"].T,
            "linear1.bias": w["mlp.b_in"],
            "linear2.weight": w["mlp.W_out"].T,
            "linear2.bias": w["mlp.b_out"],
            **{f"norm{n}.weight": w[f"ln{n}.w"] for n in (1, 2)},
            **{f"norm{n}.bias": w[f"ln{n}.b"] for n in (1, 2)},
        }
    )
    with torch.no_grad():
        x = theirs.train(False)(embed(weights, model, PAIRS))[:, -1]
    expected = x @ weights["unembed.W_U"] + weights["unembed.b_U"]
    assert_close(logits(weights, model, PAIRS), expected, rtol=0, atol=1e-11 * expected.abs().max().item())


@pytest.mark.parametrize("fields", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_unembedding_has_the_norm_before_it_folded_in(fields: dict) -> None:
    """logits = residual_post W_U + one constant, with the matrices that analyses read."""
    model = replace(SMALL, **fields)
    weights = drawn(model)
    found = transform(weights, model, embed(weights, model, PAIRS))
    rest = found.logits - found.residual_post @ matrices(weights, model).last
    assert_close(rest, rest[:1].expand_as(rest), rtol=0, atol=1e-10)
    again = residual_post(weights, model, found.residual_mid, found.neurons)
    assert_close(again, found.residual_post, rtol=0, atol=1e-11)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_the_neurons_map_is_what_a_neuron_adds_up_to_length(order: str) -> None:
    """More of one neuron moves the logits of an example, once its length is multiplied back, along its row of W_L (ε
    = 0; with two norms in a row and no shift between them)."""
    model = replace(SMALL, norm=replace(LAYER, epsilon=0.0, order=order))
    weights = drawn(model)
    weights["blocks.0.ln2.b"].zero_()
    found = transform(weights, model, embed(weights, model, PAIRS))
    W_L = matrices(weights, model).W_L

    def answers(neurons: Tensor) -> Tensor:
        """The logits without their constant, times the lengths that both norms divide by."""
        stream = found.residual_mid + neurons @ weights["blocks.0.mlp.W_out"] + weights["blocks.0.mlp.b_out"]
        length = (stream - stream.mean(-1, keepdim=True)).square().mean(-1, keepdim=True).sqrt()
        if order == "post":
            inner = (stream - stream.mean(-1, keepdim=True)) / length * weights["blocks.0.ln2.w"]
            length = length * (inner - inner.mean(-1, keepdim=True)).square().mean(-1, keepdim=True).sqrt()
        read = residual_post(weights, model, found.residual_mid, neurons)
        return read @ matrices(weights, model).last * length

    more = found.neurons.clone()
    more[:, 3] += 0.7
    moved = answers(more) - answers(found.neurons)
    assert_close(moved, (0.7 * W_L[3]).expand_as(moved), rtol=0, atol=1e-10)


def test_rotary_positions_are_rotations_of_planes() -> None:
    """By complex numbers, for one head; and only differences of positions matter."""
    model = replace(SMALL, n_heads=1, attention=Attention(rotary_base=100.0), causal=False)
    weights = drawn(model)
    x = embed(weights, model, PAIRS)
    W_Q, W_K, W_V, W_O = (weights[f"blocks.0.attn.W_{name}"][0] for name in "QKVO")
    angles = torch.arange(3.0).double()[:, None] * 100.0 ** (-torch.arange(4.0).double() / 4)
    turn = torch.polar(torch.ones_like(angles), angles)
    as_planes = [torch.complex(y[..., :4], y[..., 4:]) * turn for y in (x @ W_Q, x @ W_K)]
    scores = (as_planes[0][:, -1:] * as_planes[1].conj()).real.sum(-1) / math.sqrt(8)
    attention = scores.softmax(-1)
    found = transform(weights, model, x)
    assert_close(found.attention[:, 0], attention, rtol=0, atol=1e-12)
    mid = x[:, -1] + torch.einsum("nk,nkd->nd", attention, x @ W_V @ W_O)
    assert_close(found.residual_mid, mid, rtol=0, atol=1e-12)


def test_a_constant_before_everything_does_not_matter_where_only_differences_do() -> None:
    """Rotary positions and no others: a token in front that nobody sees shifts every position by one."""
    model = replace(SMALL, attention=Attention(rotary_base=50.0), causal=False, prompt="ab=")
    weights = drawn(model)
    weights["pos_embed.W_pos"].zero_()
    longer = replace(model, prompt="^ab=")
    more = dict(weights)
    W_E = weights["embed.W_E"]
    more["embed.W_E"] = torch.cat([W_E[:P], torch.zeros(1, 8).double(), W_E[P:]])
    more["pos_embed.W_pos"] = torch.zeros(4, 8).double()
    # The token in front is 0 and so are its key's score and value; it takes a share of attention alone.
    short, long = (transform(w, m, embed(w, m, PAIRS)).attention for w, m in ((weights, model), (more, longer)))
    renormalized = long[..., 1:] / long[..., 1:].sum(-1, keepdim=True)
    assert_close(renormalized, short, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_normalized_stream_has_no_length(kind: str) -> None:
    """Pre-norm without ε: W_E, W_pos, W_O, W_out, b_out all times ten change no answer; a layer norm also sees no
    shift along ones."""
    model = replace(SMALL, norm=Norm(kind=kind, epsilon=0.0))
    weights = drawn(model)
    writes = ("embed.W_E", "pos_embed.W_pos", "blocks.0.attn.W_O", "blocks.0.mlp.W_out", "blocks.0.mlp.b_out")
    tenfold = weights | {name: 10 * weights[name] for name in writes}
    assert_close(logits(tenfold, model, PAIRS), logits(weights, model, PAIRS), rtol=0, atol=1e-10)
    shifted = weights | {"embed.W_E": weights["embed.W_E"] + 1.0}
    is_same = torch.allclose(logits(shifted, model, PAIRS), logits(weights, model, PAIRS), atol=1e-10)
    assert is_same == (kind == "layer")


def test_zero_biases_are_none_and_a_copied_unembedding_is_tied() -> None:
    plain, weights = SMALL, drawn(SMALL)
    with_biases = replace(plain, biases=True)
    zeros = {name: torch.zeros(shape).double() for name, shape in weight_shapes(with_biases, P).items()}
    assert_close(logits(zeros | weights, with_biases, PAIRS), logits(weights, plain, PAIRS), rtol=0, atol=1e-12)
    copied = weights | {"unembed.W_U": weights["embed.W_E"][:P].T.contiguous()}
    without = {name: weight for name, weight in copied.items() if name != "unembed.W_U"}
    tied = logits(without, replace(plain, tied=True), PAIRS)
    assert_close(tied, logits(copied, plain, PAIRS), rtol=0, atol=1e-12)


def test_only_the_plain_network_is_factored() -> None:
    assert is_factored(SMALL)
    assert not any(is_factored(replace(SMALL, **fields)) for fields in ARCHITECTURES.values())


# ---- training --------------------------------------------------------------------------------------------------------

TRAINED = {
    "pre-norm": {"norm": LAYER},
    "post-norm": {"norm": replace(LAYER, order="post")},
    "rms, gated": {"norm": RMS, "mlp": Mlp(gated=True), "activation": "silu"},
    "not learned": {"norm": replace(LAYER, learned=False)},
    "biases": {"biases": True},
    "tied": {"tied": True},
    "rotary, a op b =": {"attention": Attention(rotary_base=100.0), "prompt": "a+b="},
    "mlp with biases": {},
}


def _model(fields: dict, name: str) -> ModelConfig:
    if name == "mlp with biases":
        return ModelConfig(family="mlp", d_mlp=24, biases=True, embedding="untied", d_model=8)
    return replace(SMALL, d_model=16, d_mlp=32, **fields)


@pytest.mark.parametrize("name", TRAINED)
def test_they_learn_and_resume_to_the_last_bit(name: str) -> None:
    training = TrainingConfig(steps=150, lr=1e-2, weight_decay=0.1, checkpoint_every=75, log_every=75)
    experiment = Experiment(Task(P, train_fraction=0.8), _model(TRAINED[name], name), training)
    first, middle, last = train(experiment)
    assert last.metrics["train_accuracy"] == 1
    assert first.metrics["train_accuracy"] < 0.5
    (again,) = train(experiment, resume=middle)
    assert all(torch.equal(again.weights[name], last.weights[name]) for name in last.weights)
    changed = [name for name in last.weights if not torch.equal(last.weights[name], first.weights[name])]
    # Keys see a bias that the softmax does not: its gradient is rounding.
    assert set(changed) >= {name for name in last.weights if not name.endswith("b_K")}


def test_gains_begin_at_one_and_shifts_at_zero() -> None:
    weights = initial_weights(replace(SMALL, norm=LAYER, biases=True), P)
    gains = {name for name in weights if name.endswith(".w")}
    shifts = {name for name in weights if ".b" in name and weights[name].ndim <= 2 and "W" not in name}
    assert gains == {"blocks.0.ln1.w", "blocks.0.ln2.w", "ln_final.w"}
    assert all((weights[name] == 1).all() for name in gains)
    assert not any(weights[name].any() for name in shifts)
    assert len(shifts) == 10


def test_what_was_trained_before_is_drawn_as_before() -> None:
    """A norm that is not learned draws what the plain network draws."""
    plain, bare = initial_weights(SMALL, P), initial_weights(replace(SMALL, norm=replace(LAYER, learned=False)), P)
    assert plain.keys() == bare.keys()
    assert all(torch.equal(plain[name], bare[name]) for name in plain)


# ---- configurations --------------------------------------------------------------------------------------------------


def test_what_came_later_leaves_hashes_as_they_were() -> None:
    assert Experiment().hash == "909d76fd9682baa3"
    assert Experiment(model=ModelConfig(norm=LAYER)).to_dict()["model"]["norm"] == {
        "kind": "layer",
        "order": "pre",
        "at": ["attention", "mlp", "final"],
        "learned": True,
        "epsilon": 1e-5,
    }
    assert Experiment(model=ModelConfig(answer_at=2)).hash == Experiment().hash
    orders = [Norm(kind="rms", at=at) for at in (("final", "mlp"), ("mlp", "final", "mlp"))]
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "batch"}, "model.norm.kind: input should be 'none', 'layer' or 'rms', got 'batch'"),
        ({"kind": "layer", "order": "sandwich"}, "model.norm.order: input should be 'pre' or 'post', got 'sandwich'"),
        ({"kind": "layer", "at": ["head"]}, "model.norm.at: input should be 'attention', 'mlp' or 'final'"),
        ({"kind": "layer", "at": []}, "model.norm.at names no place"),
        ({"kind": "layer", "epsilon": -1e-5}, "model.norm.epsilon must be at least 0"),
        ({"kind": "layer", "gain": True}, "unknown field in .model.norm. 'gain'"),
        ({"order": "post"}, "model.norm.order is that of a norm, and model.norm.kind is none; give model.norm.kind"),
    ],
)
def test_a_norm_that_cannot_be(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        section_from_dict("model", {"norm": fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "a+"}, "model.prompt must have a and b, each once, as in 'ab=' or 'a.b=', got 'a.'"),
        ({"prompt": "a b"}, "one printable character for each token, without spaces"),
        ({"prompt": "ab" + 15 * "="}, "model.prompt has 17 tokens; at most 16"),
        ({"answer_at": 3}, "model.answer-at must be at most 2"),
        ({"answer_at": 0}, "position 0 of the prompt 'ab=' answers and, as it is causal, sees no position after it"),
        ({"prompt": "^ab=", "answer_at": 1}, "give a later model.answer-at or model.causal False"),
        ({"d_head": 3, "attention": Attention(rotary_base=10.0)}, "turns planes of two entries, and a head has 3"),
        ({"family": "mlp", "norm": LAYER}, "model.family 'mlp' has no model.norm"),
        ({"family": "mlp", "tied": True}, "model.family 'mlp' has no model.tied"),
    ],
)
def test_a_network_that_cannot_be(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelConfig(**fields)


@pytest.mark.parametrize(("name", "value"), [("norm", "layer"), ("norm", None), ("mlp", {"gated": True})])
def test_a_part_is_of_its_kind(name: str, value: object) -> None:
    """What jaxtyping would catch in tests, and nothing outside of them."""
    model = ModelConfig()
    object.__setattr__(model, name, value)
    with pytest.raises(InputError, match=f"model.{name} must be an interp"):
        model.__post_init__()
