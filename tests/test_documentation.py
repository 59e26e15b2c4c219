"""Every command and every Python example of README and docs is run. Training is cut to a few steps of a small
network."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from interp.cli import main
from interp.experiment import Task
from interp.interchange.layouts.matching import written
from interp.interchange.layouts.tables import LAYOUTS
from interp.runs import open_run
from interp.studies import ungrokking, verdict_networks
from interp.testing import circuit_checkpoint, circuit_neurons

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
SMALL = ["--training.steps", "20", "--model.d-model", "8", "--model.d-mlp", "16", "--model.n-heads", "2"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


# An experiment on a few networks of a few steps; those of verdicts are far too few to generalize.
FEW = "--p 11 --d-mlp 16 --processes 1"
OF_DECAYS = f"{FEW} --sizes 10 60 --weight-decays 1 --seeds 1 --duration 0.05 --d-model 8"
DESIGNS = {
    "effective-model-complexity": "--steps 20 --seeds 2 --widths 2 4 --sizes 20 40 --processes 1",
    "bias-variance": "--steps 20 --addition-steps 20 --p 11 --draws 2 --seeds 2 --widths 2 4 --n 20 --neurons 4 "
    "--processes 1",
    "slingshots": f"{FEW} --steps 30 --seeds 1",
    "grokfast": f"{FEW} --steps 30 --seeds 2 --d-model 8",
    "recipes": f"{FEW} --steps 30 --seeds 1 --d-model 8 --methods dropout",
    "verdicts": f"{OF_DECAYS} --sizes 30",
    "double-descent": "--widths 2 4 8 --sizes 30 20 --noises 0.2 --draws 2 --samples 20 30 --steps 20 --checkpoints 3",
    "scaling": "--steps 30 --seeds 2 --sizes 20 40 80 200 --widths 1 2 4 10 --d-mlp 16 --processes 1",
    "four-zones": f"{FEW} --steps 30 --seeds 1 --widths 4 --sizes 60",
    "prequential-code": f"{FEW} --steps 9 --seeds 1 --d-model 8 --prefixes 0.5 --joint-prefixes 0.5 --data-sets halves",
    "learning-phases": f"{FEW} --steps 30 --seeds 1 --d-model 8 --lrs 0.01 --decays 1",
}


def _cut_down(words: list[str]) -> list[str]:
    if words[1] == "experiment":
        return shlex.split(DESIGNS.get(words[2], OF_DECAYS))
    if words[1] != "train":
        return ["--processes", "1"] if words[1] == "sweep" else []
    if "one_pass.toml" in words:
        return SMALL[:2]
    if "--observe" in words:  # a spectrum is of 256 steps
        return ["--training.steps", "256", *SMALL[2:]]
    if "mlp" in words:  # which has no heads, and without an embedding no width of one
        small = SMALL[:-2]
        return small if "--model.embedding" in words else [*small[:2], *small[4:]]
    return SMALL


# Commands that read the reference run alone and whose output no other one reads: shown on two pages, they are run for
# the first.
RUN_ONCE = re.compile(r"interp (explain|report) checkpoints/reference( |$)")


@pytest.fixture(scope="module")
def run_before() -> set[str]:
    return set()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, adds_without_equals):
    """The files of other people that pages speak of, written once: each page gets a copy."""
    folder = tmp_path_factory.mktemp("others") / "theirs"
    write_foreign_checkpoints(folder, adds_without_equals)
    write_files_people_have(folder)
    return folder


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Results of the reference run, handed on from page to page: each is computed for the first that asks for it."""
    return tmp_path_factory.mktemp("computed") / "results"


@pytest.fixture
def workplace(tmp_path, monkeypatch, theirs, computed):
    """A folder like a checkout: the reference run is there, and so is every file that a page shows."""
    monkeypatch.setattr(ungrokking, "START_DURATION", 0.05)
    monkeypatch.setattr(verdict_networks, "KINDS", {"few-steps": verdict_networks.KINDS["few-steps"]})
    reference = tmp_path / "checkpoints" / "reference"
    left_out = shutil.ignore_patterns("__pycache__", "__init__.py", "results")
    shutil.copytree(ROOT / "checkpoints" / "reference", reference, ignore=left_out)
    shutil.copytree(theirs, tmp_path / "theirs")
    if computed.is_dir():
        shutil.copytree(computed, reference / "results")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if (reference / "results").is_dir():
        shutil.copytree(reference / "results", computed, dirs_exist_ok=True)


def write_files_people_have(folder):
    """The reference run as a trainer, a script, Lightning and numpy leave it."""
    run = open_run(ROOT / "checkpoints" / "reference")
    (folder / "RUN" / "checkpoints").mkdir(parents=True)
    for step in (1000, 2000, 3000):
        place = folder / "trainer" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        save_file(run[step].weights, place / "model.safetensors")
        torch.save({"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}, place / "optimizer.pt")
        torch.save(run[step].weights, folder / "RUN" / "checkpoints" / f"epoch_{step}.pt")
    (folder / "RUN" / "config.json").write_text(json.dumps({"prime": 43, "act_fn": "relu"}))
    (folder / "RUN" / "metadata.json").write_text(json.dumps({"train_indices": run.task.train_indices.tolist()}))
    state = {f"model.{name}": weight for name, weight in run[3000].weights.items()}
    known = {"hyper_parameters": {"p": 43}, "global_step": 3000, "pytorch-lightning_version": "2.4.0"}
    torch.save({"state_dict": state, **known}, folder / "lightning.ckpt")
    np.savez(folder / "net.npz", **{name: weight.numpy() for name, weight in run[3000].weights.items()})


def write_foreign_checkpoints(folder, adds_without_equals):
    """The files that docs/bring-your-own-checkpoints.md imports: the reference run, and planted networks, in every
    layout."""
    run = open_run(ROOT / "checkpoints" / "reference")
    write_foreign_curves(folder, run)
    heads = {"n_layers": 1, "n_heads": run.model.n_heads, "d_head": run.model.head_size}
    states = {step: run[step].weights for step in (0, 1000, 2000, 3000)}
    for name in ("nanda", "zhong", "demo", "steps"):
        (folder / name).mkdir(parents=True)
    for step, weights in states.items():
        theirs = written(LAYOUTS["nanda"], weights, heads)
        theirs["unembed.W_U"] = torch.nn.functional.pad(theirs["unembed.W_U"], (0, 1))
        torch.save({"model": theirs, "epoch": step}, folder / "nanda" / f"{step}.pth")
        save_file(
            written(LAYOUTS["transformer-lens-native"], weights, heads),
            folder / "steps" / f"step_{step:06d}.safetensors",
        )
    demo = {"model": states[3000], "checkpoints": list(states.values()), "checkpoint_epochs": list(states)}
    losses = {
        "train_losses": [run[step].loss("train") for step in states],
        "test_losses": [run[step].loss("test") for step in states],
    }
    torch.save(
        {**demo, **losses, "train_indices": torch.from_numpy(run.task.train_indices)},
        folder / "demo" / "grokking_demo.pth",
    )
    for layout, file in {
        "pytorch-linear": "model.pt",
        "pytorch-per-head": "per_head.pt",
        "pytorch-joint": "joint.pt",
    }.items():
        torch.save(written(LAYOUTS[layout], states[3000], heads), folder / file)
    strange = {name.replace("embed.W_E", "table"): weight for name, weight in states[3000].items()}
    torch.save(strange, folder / "strange.pt")
    (folder / "train.json").write_text(json.dumps(run.task.train_indices.tolist()))
    _, adding = adds_without_equals(59, 0.8)
    theirs = written(LAYOUTS["nanda"], adding, {"n_layers": 1, "n_heads": 1, "d_head": 6})
    torch.save(theirs, folder / "zhong" / "model_2k4oh.pt")
    configuration = {
        "funcs": "lambda x: (x[0]+x[1])%59",
        "C": 59,
        "attn_coeff": 0.8,
        "act_fn": "ReLU",
        "eqn_sign": False,
    }
    (folder / "zhong" / "config_2k4oh.json").write_text(json.dumps(configuration))
    one_layer = circuit_checkpoint(Task(59), circuit_neurons([5, 10, 12]), family="mlp")
    linear = written(
        LAYOUTS["mlp-input-last"], {name: weight.float() for name, weight in one_layer.weights.items()}, {"n_layers": 1}
    )
    torch.save({f"mlp.{name}": weight for name, weight in linear.items()}, folder / "mlp.pt")
    # One more hidden layer that puts the neurons in another order, and an answer that expects them so.
    order = torch.randperm(one_layer.neurons.shape[-1], generator=torch.Generator().manual_seed(0))
    W_in, W_out = (one_layer.weights[f"mlp.{name}"].float() for name in ("W_in", "W_out"))
    chain = (W_in.T, torch.eye(len(order))[order], W_out[order].T)
    torch.save({f"{2 * place}.weight": matrix.contiguous() for place, matrix in enumerate(chain)}, folder / "deep.pt")
    (folder / "module").mkdir()
    for step in (0, 300):
        torch.save(trained_on_a_plus_b(step), folder / "module" / f"step_{step}.pt")


def trained_on_a_plus_b(steps):
    """The module that docs/bring-your-own-checkpoints.md shows, some steps into training."""
    shown = next(text for text in blocks("docs/bring-your-own-checkpoints.md", "python") if "my_code.py" in text)
    exec(compile(shown, "my_code.py", "exec"), names := {})
    torch.manual_seed(0)
    net, p = names["build"](), 23
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = torch.stack([pairs[:, 0], torch.full((p * p,), p), pairs[:, 1], torch.full((p * p,), p + 1)], dim=1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(net(tokens)[:, -1], pairs.sum(1) % p)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"model": net.state_dict(), "step": steps}


def write_foreign_curves(folder, run):
    """The learning curves of the reference run as three people would have kept them."""
    folder.mkdir(parents=True)
    names = ("step", "train_loss", "test_loss", "train_accuracy", "test_accuracy")
    rows = [[row[name] for name in names] for row in run.rows]
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    history = [
        entry
        for step, loss, _, accuracy, test in rows
        for entry in ({"loss": loss, "accuracy": accuracy, "step": step}, {"eval_accuracy": test, "step": step})
    ]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    losses = {"train_losses": [row[1] for row in rows], "test_losses": [row[2] for row in rows]}
    (folder / "losses.json").write_text(json.dumps(losses))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_works(page, workplace, run_before, capsys):
    for text in blocks(page, "toml"):
        if "[axes]" in text:
            short = re.sub(r"seed = \d+", "seed = 1", re.sub(r"steps = \d+", "steps = 20", text))
            short = re.sub(r"\[([\d.]+, [\d.]+), [\d., ]+\]", r"[\1]", short)  # two places on each axis
        else:
            short = text
        (workplace / text.splitlines()[0].removeprefix("# ")).write_text(short, encoding="utf-8")
    for text in blocks(page, "python"):
        if text.startswith("# my_code.py\n"):
            (workplace / "my_code.py").write_text(text, encoding="utf-8")
    for line in "\n".join(blocks(page, "bash")).splitlines():
        words = shlex.split(line, comments=True)
        if not words or (RUN_ONCE.match(line) and line in run_before):
            continue
        run_before.add(line)
        if words[0] == "interp" and words[1] == "resume":
            # The page speaks of a run that was stopped; the one before was not.
            assert main(words[1:]) == 2
            assert "complete" in capsys.readouterr().err
        elif words[0] == "interp":
            assert main([*words[1:], *_cut_down(words)]) == 0, (line, capsys.readouterr().err)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        else:
            # Installing is what the Makefile does, and a clean clone shows it.
            assert words[:4] == ["pip", "install", "-c", "constraints.txt"], (
                f"{page} shows a command that no test knows: {line}"
            )
            assert (ROOT / words[3]).is_file()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_every_python_example_works(page, workplace, capsys):
    for number, text in enumerate(blocks(page, "python")):
        exec(compile(text, f"{page}, example {number + 1}", "exec"), {"__name__": "__main__"})
    if page == "docs/your-own-training-loop.md":  # its last digits may be those of another processor
        [shown] = blocks(page, "text")
        assert shown.startswith("It grokked")
        assert capsys.readouterr().out.startswith("It grokked")


def scripts() -> list[tuple[str, str]]:
    """The language and the text of the blocks in the first section of README."""
    before, section, *_ = re.split(r"^## ", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "```" not in before
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_the_four_scripts_come_first_and_are_short():
    lines = [(language, len([line for line in text.splitlines() if line])) for language, text in scripts()]
    assert [language for language, _ in lines] == ["bash", "python", "python", "python"]
    assert all(n <= {"bash": 2, "python": 10}[language] for language, n in lines)


def test_the_scripts_show_what_they_say(workplace, capsys):
    """Memorized at step 100, known by the circuit at the end: the strengths that the last one prints."""
    _, folder, _, comparison = [text for _, text in scripts()]
    exec(folder, {})
    with open("norms.csv", encoding="utf-8") as file:
        assert file.readline().startswith("step,total_l1,total_l2")
    told = capsys.readouterr().out
    assert told.startswith("It grokked: 100 %")
    assert "✓ weight_norms" in told
    exec(comparison, names := {})
    assert "memorizing" in (told := capsys.readouterr().out)
    assert "generalizing" in told
    found = names["strengths"].set_index(["step", "estimator", "split", "circuit"]).strength
    of_train = [
        found[step, "held_out", "train", name] for step in (100, 3000) for name in ("memorizing", "generalizing")
    ]
    assert [round(float(value), 1) for value in of_train] == [16.2, 1.2, 1.4, 43.2]


def test_what_the_pages_say_of_the_reference_run():
    import interp
    from interp.analysis import find, measure_checkpoint

    run = interp.open_run(interp.reference_path())
    assert run.key_frequencies == [3, 11, 12]
    assert run.steps[:4] == [0, 1, 2, 3]
    assert int((run.result("neuron_periodicity").fraction_explained.sel(step=3000) >= 0.85).sum()) == 121
    metrics = run.metrics.sel(step=400)
    assert metrics.test_accuracy == pytest.approx(0.4, abs=0.05)
    assert metrics.unmirrored_test_accuracy < 0.05
    strength = run.result("circuit_split").strength.sel(estimator="held_out", split="train")
    assert strength.sel(step=100).values.round(1).tolist() == [1.2, 16.2]
    assert strength.sel(step=3000).values.round(1).tolist() == [43.2, 1.4]
    own = measure_checkpoint(run[400], "progress_measures").sel(split="held_out")
    assert (round(own.restricted_loss.item(), 2), round(own.loss.item())) == (0.55, 12)
    check = find("frequency_ablation").summary(run.result("frequency_ablation"))
    left = [check["held_out_accuracy"][target]["remove_key"] for target in ("embedding", "neurons")]
    assert [round(100 * share) for share in left] == [3, 5]
    assert [check["random_accuracy"][target]["held_out"] for target in ("embedding", "neurons")] == [[1, 1]] * 2
    efficiency = find("circuit_efficiency").summary(run.result("circuit_efficiency"))
    assert round(efficiency["strength_alone"]["generalizing"]) == 43
    assert round(efficiency["efficiency"]["generalizing"], 1) == 2.0
    early = run.result("circuit_efficiency").sel(step=300, set="key")
    assert (round(float(early.strength), 1), round(float(early.efficiency), 2)) == (4.6, 0.28)
    assert run.result("circuit_efficiency").strength.drop_sel(set="key").max() < 0.1


def test_the_explanation_that_the_readme_shows_is_what_it_says():
    import interp
    from interp.explanation import explain

    [shown] = blocks("README.md", "text")
    assert str(explain(interp.open_run(interp.reference_path()))) == shown.strip()


def test_imports_that_are_documented_name_packages_and_not_their_files():
    """But for `mathematics`, whose files are named, and analyses, which are found in whatever folder they lie."""
    pages = [*PAGES, "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.ipynb"))]
    told = {
        (page, module)
        for page in pages
        for module in re.findall(r"^[ \"]*(?:from|import) (interp[.\w]*)", (ROOT / page).read_text(), re.MULTILINE)
    }
    assert ("docs/guide.md", "interp.analysis") in told
    assert [one for one in told if one[1].count(".") > 1 and not one[1].startswith("interp.mathematics.")] == []
