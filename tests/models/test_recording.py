"""Anybody's module as a checkpoint: our own reference network, written as a stranger would, is the same whichever way
it comes; and what cannot be recorded is refused with its cause."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

import interp
from interp.analysis import discover, measure_checkpoint
from interp.errors import InputError
from interp.experiment import ModelConfig, ModuleRecord, Samples, Task, recorded_section, section_from_dict
from interp.models import Reader, initial_weights, record, weight_shapes
from interp.runs import Checkpoint

P = 7


class Stranger(nn.Module):
    """The one-layer transformer on `a b =`, position by position, with parameters of its own names and orientation."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(weights["embed.W_E"], freeze=False)
        self.positions = nn.Parameter(weights["pos_embed.W_pos"])
        self.heads = nn.ParameterDict({k: nn.Parameter(weights[f"blocks.0.attn.W_{k}"]) for k in "QKVO"})
        self.hidden, self.out = (
            self.linear(weights[f"blocks.0.mlp.W_{n}"], weights[f"blocks.0.mlp.b_{n}"]) for n in ("in", "out")
        )
        self.act = nn.ReLU()
        self.head = self.linear(torch.nn.functional.pad(weights["unembed.W_U"], (0, 1)), None)

    @staticmethod
    def linear(matrix: Tensor, bias: Tensor | None) -> nn.Linear:
        made = nn.Linear(*matrix.shape, bias=bias is not None)
        made.weight.data = matrix.T.contiguous()
        if bias is not None:
            made.bias.data = bias.clone()
        return made

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens) + self.positions
        q, k, v = (torch.einsum("nsd,hde->nhse", x, self.heads[name]) for name in "QKV")
        scores = q @ k.mT / q.shape[-1] ** 0.5
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        x = x + torch.einsum("nhse,hed->nsd", scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v, self.heads["O"])
        return self.head(x + self.out(self.act(self.hidden(x))))


@pytest.fixture(scope="module")
def native() -> Checkpoint:
    return interp.open_run(interp.reference_path())[3000]


@pytest.fixture(scope="module")
def brought(native: Checkpoint) -> Checkpoint:
    return Checkpoint.from_module(
        Stranger(native.weights),
        native.task,
        tokens="a b =",
        neurons="act",
        embedding="table.weight",
        unembedding="head.weight",
        step=3000,
    )


def adder(p: int = P, d: int = 8, *between: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(p, d), nn.Flatten(), nn.Linear(2 * d, 24), nn.ReLU(), *between, nn.Linear(24, p))


def test_our_own_network_as_a_module_is_the_same(native: Checkpoint, brought: Checkpoint):
    scale = native.logits.abs().max()
    assert_allclose(brought.logits / scale, native.logits / scale, atol=1e-5)
    assert_allclose(brought.neurons, native.neurons, atol=1e-5 * native.neurons.max())
    assert torch.equal(brought.W_E, native.W_E)
    assert torch.equal(brought.W_U, native.W_U)
    assert brought.key_frequencies == native.key_frequencies == [3, 11, 12]
    assert brought.loss("test") == pytest.approx(native.loss("test"), rel=1e-4)
    assert brought.model.module.classes == 44  # `=` is one, and was cut


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("neuron_periodicity", ["fraction_explained", "share", "dominant_frequency"]),
        ("neuron_responses", ["mean_over_b"]),
        ("frequency_evidence", ["strength", "deviations", "is_key"]),
        ("embedding_spectrum", ["embedding_norm", "logit_share", "is_key", "gini_embedding"]),
        ("logit_structure", ["coefficient", "r_squared"]),
        ("progress_measures", ["restricted_loss"]),
        ("circuit_split", ["strength", "margin", "power_share"]),
        ("calibration", ["calibrated_threshold", "periodic_neurons"]),
        ("weight_norms", ["embedding_l2", "unembedding_l2"]),
    ],
)
def test_an_analysis_finds_the_same(name: str, variables: list[str], native: Checkpoint, brought: Checkpoint):
    ours, theirs = (measure_checkpoint(one, name) for one in (native, brought))
    for variable in variables:
        one, other = ours[variable].values.astype(float), theirs[variable].values.astype(float)
        assert_allclose(other, one, rtol=1e-3, atol=1e-5 * max(1.0, np.nanmax(np.abs(one))), err_msg=variable)


def test_weights_are_the_modules_own_and_not_what_was_recorded(native: Checkpoint, brought: Checkpoint):
    theirs = measure_checkpoint(brought, "weight_norms")
    assert set(theirs.tensor.values) == {f"module.{name}" for name, _ in Stranger(native.weights).named_parameters()}
    ours = measure_checkpoint(native, "weight_norms").total_l2
    assert theirs.total_l2.item() == pytest.approx(ours.item(), rel=1e-6)


def test_what_needs_the_network_says_so(brought: Checkpoint):
    without = {name for name, each in discover().items() if not each.is_for(brought.task, brought.model)}
    needed = {"attention_structure", "circuit_efficiency", "circuit_forces", "clock_pizza", "frequency_ablation"}
    needed |= {"gradient_spectrum", "mlp_structure", "norm_account", "norm_landscape", "representation"}
    needed |= {"slingshots", "softmax_collapse", "operations", "description_length", "curvature"}
    assert without == needed | {"linear_mapping_number", "loss_barrier"}
    with pytest.raises(InputError, match=r"clock_pizza reads the network itself .* logits, neurons, embedding"):
        measure_checkpoint(brought, "clock_pizza")
    bare = Checkpoint.from_module(adder(), Task(P))
    with pytest.raises(InputError, match="neuron_periodicity reads neurons, and of this module logits were recorded"):
        measure_checkpoint(bare, "neuron_periodicity")
    for name in ("neurons", "W_E", "W_U", "residual_post"):
        with pytest.raises(InputError, match="was recorded"):
            getattr(bare, name)
    with pytest.raises(InputError, match="would take the network itself"):
        _ = bare.W_in
    with pytest.raises(InputError, match="would take the network itself"):
        initial_weights(bare.model, P)


def test_what_is_not_known_is_nan_and_no_rule_is_said_to_fail():
    bare = Checkpoint.from_module(adder(), Task(P))
    spectrum = measure_checkpoint(bare, "embedding_spectrum")
    assert spectrum.embedding_norm.isnull().all()
    assert spectrum.output_norm.isnull().all()
    assert spectrum.logit_share.notnull().all()
    evidence = discover()["frequency_evidence"].summary(measure_checkpoint(bare, "frequency_evidence"))
    assert evidence["key_frequencies_by"] == {"embedding": None, "output": None, "neurons": None}
    assert measure_checkpoint(bare, "circuit_split").degree.isnull().all()


@pytest.mark.parametrize(
    ("template", "tokens"),
    [
        ("a b", [2, 5]),
        ("ab=", [2, 5, 7]),
        ("a+b=", [2, 7, 5, 8]),
        ("^ a + b =", [7, 2, 8, 5, 9]),
        ("b a", [5, 2]),
        ("a 12 b p+1", [2, 12, 5, 8]),
        ("a p+b p", [2, 12, 7]),
    ],
)
def test_templates(template: str, tokens: list[int]):
    seen = []

    class Looks(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            seen.append(given)
            return nn.functional.one_hot(given[:, :2].sum(1) % P, P).float()

    record(Looks(), Task(P), Reader(tokens=template))
    assert seen[0][2 * P + 5].tolist() == tokens


@pytest.mark.parametrize("template", ["a", "a a b", "+=", ""])
def test_templates_that_are_none(template: str):
    with pytest.raises(InputError, match="must have a and b once each"):
        Checkpoint.from_module(adder(), Task(P), tokens=template)


def test_a_function_gives_the_input():
    """One-hot vectors side by side, and logits [n, V]."""

    def one_hot(pairs: Tensor) -> Tensor:
        return nn.functional.one_hot(pairs, P).float().flatten(1)

    linear = nn.Linear(2 * P, P, bias=False)
    found = Checkpoint.from_module(linear, Task(P), tokens=one_hot)
    assert_allclose(found.logits[2, 5], (linear.weight[:, 2] + linear.weight[:, P + 5]).detach(), atol=1e-6)
    with pytest.raises(InputError, match=r"the function `tokens` failed on pairs .*ZeroDivisionError"):
        Checkpoint.from_module(linear, Task(P), tokens=lambda pairs: 1 / 0)


def test_the_module_is_left_as_it_was():
    module = adder(P, 8, nn.Dropout(0.5))
    module[1].eval()  # a part that somebody froze
    modes = [each.training for each in module.modules()]
    before = torch.get_rng_state()
    found = record(module, Task(P), Reader(neurons="3"))
    assert [each.training for each in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert not module[3]._forward_hooks
    assert not found.weights["recorded.logits"].requires_grad
    found.weights["module.0.weight"].zero_()
    assert module[0].weight.abs().sum() > 0  # what was kept is a copy


def test_a_module_that_counts_its_runs_does_not_count_ours():
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("runs", torch.zeros(()))
            self.register_buffer("last", torch.zeros(1))
            self.register_buffer("mask", torch.zeros(1).expand(3, 3))  # which cannot be written to

        def forward(self, x: Tensor) -> Tensor:
            self.runs += 1
            self.last = x[:1].clone()
            return x

    module = adder(P, 8, Counts())
    last = module[4].last
    record(module, Task(P))
    assert module[4].runs == 0
    assert module[4].last is last
    assert last.tolist() == [0.0]


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


class OfTheBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x[:1]


@pytest.mark.parametrize("part", [Noisy(), OfTheBatch()])
def test_two_runs_must_agree(part: nn.Module):
    module = adder(P, 8, part)
    with pytest.raises(InputError, match=r"two runs of the module differ by .*dropout"):
        Checkpoint.from_module(module, Task(P))
    assert module.training  # put back, whatever happened


class Answers(nn.Module):
    def __init__(self, answer) -> None:
        super().__init__()
        self.answer, self.twice = answer, nn.Identity()

    def forward(self, tokens: Tensor):
        return self.answer(self.twice(self.twice(tokens)))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda t: t, r"the module gives torch.int64 \[49, 2\] for 49 pairs, expected floating-point numbers \[49, V"),
        (lambda t: None, r"the module gives a NoneType for 49 pairs"),
        (lambda t: torch.zeros(len(t), 5), r"the module answers 5 classes, and there are p = 7 residues"),
        (lambda t: torch.zeros(2, len(t), 7), r"the module gives torch.float32 \[2, 49, 7\] for 49 pairs"),
        (lambda t: torch.zeros(len(t), 7) / 0, r"the module answers NaN or infinity for some pairs"),
        (lambda t: t @ t, r"the module failed on its input \[49, 2\]: RuntimeError"),
    ],
)
def test_answers_that_are_none(answer, complaint: str):
    with pytest.raises(InputError, match=complaint):
        Checkpoint.from_module(Answers(answer), Task(P))


@pytest.mark.parametrize("wrap", [lambda x: (x, None), lambda x: {"logits": x}, lambda x: x[:, None].expand(-1, 3, -1)])
def test_answers_in_wrappers(wrap):
    table = torch.randn(P, P, P)
    found = Checkpoint.from_module(Answers(lambda t: wrap(table[t[:, 0], t[:, 1]])), Task(P))
    assert torch.equal(found.logits, table)


def test_names_that_the_module_does_not_have():
    module = adder()
    with pytest.raises(InputError, match=r"the module has no submodule 'fc'; it has '0', '1', '2', '3', '4'"):
        Checkpoint.from_module(module, Task(P), neurons="fc")
    with pytest.raises(InputError, match=r"no matrix '0.wieght'; did you mean '0.weight'\?"):
        Checkpoint.from_module(module, Task(P), embedding="0.wieght")
    with pytest.raises(InputError, match=r"the submodule 'twice' ran 2 times in one run of the module"):
        Checkpoint.from_module(Answers(lambda t: torch.zeros(len(t), P)), Task(P), neurons="twice")
    unused = nn.ModuleDict({"unused": nn.Linear(2, 2)})
    module.append(nn.Identity()).add_module("aside", unused)
    module.aside.forward = lambda x: x
    with pytest.raises(InputError, match=r"the submodule 'aside.unused' was not run"):
        Checkpoint.from_module(module, Task(P), neurons="aside.unused")


def test_which_way_round_a_matrix_is():
    """By the axis of p or more, the exact one of two; by what is said where it can be both; refused otherwise."""
    module = nn.Module()
    table = torch.randn(P, P, P)
    module.forward = lambda t: table[t[:, 0], t[:, 1]]
    for name, shape in {"rows": (P, 5), "columns": (5, P), "wide": (P, 30), "square": (P, P), "small": (3, 4)}.items():
        module.register_parameter(name, nn.Parameter(torch.randn(shape)))
    module.register_parameter("both", nn.Parameter(torch.randn(20, 30)))

    def embedding(name: str) -> Tensor:
        return Checkpoint.from_module(module, Task(P), embedding=name).W_E

    assert torch.equal(embedding("rows"), module.rows)
    assert torch.equal(embedding("columns"), module.columns.T)
    assert torch.equal(embedding("wide"), module.wide)
    assert torch.equal(embedding("square:rows"), module.square)
    assert torch.equal(embedding("square:columns"), module.square.T)
    for name in ("square", "both"):
        with pytest.raises(InputError, match=rf"can be read both ways: say {name}:rows where each row is a residue"):
            embedding(name)
    with pytest.raises(InputError, match=r"'small' \[3, 4\] has no axis of p = 7 or more"):
        embedding("small")
    assert torch.equal(Checkpoint.from_module(module, Task(P), unembedding="wide").W_U, module.wide.T)


def test_two_vocabularies_lie_side_by_side():
    module = nn.Sequential(nn.Embedding(2 * P, 4), nn.Flatten(), nn.Linear(8, P))
    found = Checkpoint.from_module(module, Task(P), tokens="a p+b", embedding="0.weight")
    assert torch.equal(found.W_E, torch.cat([module[0].weight[:P], module[0].weight[P:]], dim=1))


def test_a_tied_parameter_is_counted_once_and_buffers_not_at_all():
    module = nn.Sequential(nn.Embedding(P, 4), nn.Flatten(), nn.Linear(8, 4, bias=False), nn.Linear(4, P, bias=False))
    module[3].weight = module[0].weight
    module.register_buffer("mask", torch.full((3, 3), -torch.inf))
    names = [name for name, _ in record(module, Task(P)).model.module.parameters]
    assert names == ["0.weight", "2.weight"]


def test_what_a_checkpoint_on_disk_has_is_in_its_model(brought: Checkpoint):
    shapes = weight_shapes(brought.model, brought.task.p)
    assert {name: tuple(weight.shape) for name, weight in brought.weights.items()} == shapes
    p, m = 113, 512
    recorded = weight_shapes(ModelConfig(family="module", module=ModuleRecord(neurons=m)), p)
    assert round(4e-6 * sum(np.prod(shape) for shape in recorded.values())) == 32  # MB, as the pages say


def test_a_record_is_written_and_read_as_it_is(brought: Checkpoint):
    values = json.loads(json.dumps(recorded_section(brought.model)))
    assert section_from_dict("model", values) == brought.model
    assert "module" not in recorded_section(ModelConfig())  # and older experiments keep their hash
    for wrong in ({"neurons": -1}, {"parameters": [["a", [1]], ["a", [2]]]}, {"parameters": [["a", [-1]]]}, {"x": 1}):
        with pytest.raises(InputError, match=r"module"):
            section_from_dict("model", {"family": "module", "module": wrong})


def test_examples_that_are_no_pairs():
    with pytest.raises(InputError, match="a module is asked about pairs over Z_p, and these examples are vectors"):
        record(adder(), Samples())


def test_a_recorded_family_is_not_trained():
    with pytest.raises(InputError, match="train it in its own loop"):
        interp.Experiment(Task(P), ModelConfig(family="module"))
    with pytest.raises(InputError, match=r"model.family 'module' has no model.d-mlp; leave it at 512"):
        ModelConfig(family="module", d_mlp=24)


def test_names_of_parameters_are_shown_and_not_followed():
    module = adder()
    module.register_parameter("<a href='javascript:x'>", nn.Parameter(torch.ones(2)))
    norms = measure_checkpoint(Checkpoint.from_module(module, Task(P), step=0), "weight_norms")
    drawn = discover()["weight_norms"].module.plot(norms).to_json()
    assert "<a href" not in drawn.replace("\\u003c", "<")
    assert "&lt;a href" in drawn.replace("\\u0026", "&")


def test_probabilities_are_no_logits():
    table = torch.randn(P, P, P, generator=torch.Generator().manual_seed(0)).softmax(-1)
    with pytest.raises(InputError, match=r"the module answers probabilities .* leave the softmax at its end out"):
        Checkpoint.from_module(Answers(lambda t: table[t[:, 0], t[:, 1]]), Task(P))
    logits = table.log()
    found = Checkpoint.from_module(Answers(lambda t: logits[t[:, 0], t[:, 1]]), Task(P))
    assert torch.equal(found.logits, logits)


def test_an_answer_that_depends_on_the_set_it_is_asked_with_is_seen_in_a_small_task():
    """A batch norm without running statistics: in one part of all pairs their order would not tell."""
    with pytest.raises(InputError, match=r"its answer depends on the other pairs of a batch"):
        Checkpoint.from_module(adder(P, 8, nn.BatchNorm1d(24, track_running_stats=False)), Task(P))


def test_a_name_within_a_wrapper_is_told():
    wrapped = nn.ModuleDict({"_orig_mod": adder()})
    wrapped.forward = wrapped["_orig_mod"].forward
    with pytest.raises(InputError, match=r"no submodule '3'; did you mean '_orig_mod.3'\?"):
        Checkpoint.from_module(wrapped, Task(P), neurons="3")
