"""What a person can get wrong, and damaged runs: one line, exit code 2, nothing written, never a traceback."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interp.cli import main
from interp.errors import InputError
from interp.runs import open_run
from interp.runs.format import with_sum

STEP = "run/steps/step_000000010.safetensors"
Refused = Callable[..., str]


@pytest.fixture
def refused(run: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """The one line with which a command is refused, having printed and written nothing; `verify` tells what it checked
    all the same."""

    def refused(*arguments: str) -> str:
        before = contents()
        assert main(arguments) == 2
        out, err = capfd.readouterr()
        assert contents() == before
        if arguments[0] == "verify" and "1 contradiction; " in err:
            assert all(line.startswith(("checked", "not checked")) for line in out.splitlines()), out
            err, last = err.splitlines(keepends=True)
            assert last.startswith("interp: run: 1 contradiction; ")
        else:
            assert out == ""
        assert re.fullmatch(r"interp: .+\n", err), err
        return err.removeprefix("interp: ").removesuffix("\n")

    capfd.readouterr()
    return refused


def contents() -> dict[str, bytes | None]:
    """All that is in the folder we stand in."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


# ---- options and files of options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--task.train-fracton 0.3", "unknown option --task.train-fracton; did you mean --task.train-fraction?"),
        ("--task.train-fracton=0.3", "unknown option --task.train-fracton; did you mean --task.train-fraction?"),
        ("--model.d_modle 8", "unknown option --model.d-modle; did you mean --model.d-model?"),
        ("--training.weight-deacy 1", "unknown option --training.weight-deacy; did you mean --training.weight-decay?"),
        ("--lr 1", "unknown option --lr; did you mean --training.lr?"),
        ("--seed 1", "unknown option --seed; did you mean --task.seed or --model.seed or --training.seed?"),
        ("--zzzzzz", "unknown option --zzzzzz; see interp train --help"),
        ("surplus", "unexpected 'surplus'; see interp train --help"),
        ("--preset quik", "unknown preset 'quik'; did you mean 'quick'?"),
        ("--preset", "preset needs a value"),
        ("--training.betas 0.9", "training.betas needs 2 values"),
        ("--task.operation ad", "unknown task.operation 'ad'; did you mean 'add'?"),
        ("--task.p seven", "task.p must be an integer, got 'seven'"),
        ("--task.p 7.5", "task.p must be an integer, got '7.5'"),
        ("--task.p -5", "task.p must be at least 2, got -5"),
        ("--task.p 5000", "task.p must be at most 4096, got 5000"),
        ("--task.train-pairs many", "task.train-pairs must be an integer, got 'many'"),
        ("--task.train-pairs 12770", "task.train-pairs must be at most 12769, got 12770"),
        ("--task.train-pairs 0", "task.train-pairs must be at least 1, got 0"),
        ("--task.train-fraction 0", "task.train-fraction must be greater than 0, got 0"),
        ("--task.train-fraction 1.5", "task.train-fraction must be at most 1, got 1.5"),
        ("--task.train-fraction nan", "task.train-fraction must be finite, got nan"),
        ("--task.train-fraction 0.00001", "task.train-fraction 1e-05 of 12769 pairs leaves none to train on"),
        ("--task.label-noise 1.1", "task.label-noise must be at most 1, got 1.1"),
        ("--task.split 3 99999", "task.split: each index a·p + b must be at most 12768, got 99999"),
        (
            "--task.split unknown",
            "task.split is unknown: a run that is trained here needs its training pairs; give task.train-fraction",
        ),
        ("--task.symmetric", "task.symmetric describes the operation 'random'; the operation here is 'add'"),
        ("--model.d-model 130", "model.d-model 130 is not a multiple of model.n-heads 4; give model.d-head"),
        ("--model.d-mlp 0", "model.d-mlp must be at least 1, got 0"),
        ("--model.d-model 1000004", "model.d-model must be at most 1000000, got 1000004"),
        ("--model.n-layers -1", "model.n-layers must be at least 1, got -1"),
        ("--model.attention-rate 1.01", "model.attention-rate must be at most 1, got 1.01"),
        ("--training.lr nan", "training.lr must be finite, got nan"),
        ("--training.lr inf", "training.lr must be finite, got inf"),
        ("--training.lr 0", "training.lr must be greater than 0, got 0"),
        ("--training.lr fast", "training.lr must be a number, got 'fast'"),
        ("--training.weight-decay -0.1", "training.weight-decay must be at least 0, got -0.1"),
        ("--training.betas 0.9 1.0", "training.betas must be less than 1, got 1"),
        ("--training.momentum 1", "training.momentum must be less than 1, got 1"),
        ("--training.steps -1", "training.steps must be at least 0, got -1"),
        ("--training.batch-size 4597", "training.batch-size 4597 is larger than the training set of 4596 pairs"),
        ("--training.checkpoint-steps 5 2001", "training.checkpoint-steps must be at most 1000, got 2001"),
        ("--training.log-every 0", "training.log-every must be at least 1, got 0"),
        ("--config missing.toml", "cannot read the configuration missing.toml: No such file or directory"),
        ("--config run", "cannot read the configuration run: Is a directory"),
        ("--out run", "run already exists; choose another --out, or give --overwrite to replace it"),
        ("--out run/steps --overwrite", "run/steps is not a run, so it is not overwritten"),
        ("--out run/run.json/x", "cannot write to run/run.json/x: /…/run.json is a file"),
    ],
)
def test_a_training_that_cannot_be(flags: str, expected: str, refused: Refused):
    assert refused("train", *flags.split()).replace(str(Path.cwd() / "run"), "/…") == expected


@pytest.mark.parametrize(
    "size", ["--model.d-model=1000000", "--model.d-mlp=1000000 --model.n-layers=1000", "--training.steps=999999999"]
)
def test_a_model_that_no_disk_holds(size: str, refused: Refused):
    assert re.fullmatch(
        r"the checkpoints need about [\d,.]+ TB and \S+ has [\d.]+ [MGT]B left; raise training.checkpoint-every, "
        r"or choose another --out",
        refused("train", *size.split()),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[task]\ntrain-fracton = 0.3", "unknown field in [task] 'train-fracton'; did you mean 'train-fraction'?"),
        ("[trainng]\nlr = 1", "unknown section 'trainng'; did you mean 'training'?"),
        ("lr = 1", "unknown section 'lr'; known: task, model, training"),
        ("task = 7", "task must be a table of fields, got 7"),
        ("[task]\np = -5", "task.p must be at least 2, got -5"),
        ("[task]\np = 7.5", "task.p: input should be a valid integer, got 7.5"),
        ("[task]\np = true", "task.p: input should be a valid integer, got True"),
        ("[training]\nlr = nan", "training.lr must be finite, got nan"),
        ("[training]\nlr = inf", "training.lr must be finite, got inf"),
        ("[training]\nlr = '1e-3'", "training.lr: input should be a valid number, got '1e-3'"),
        ("[training]\nbetas = [0.9, 1.0]", "training.betas must be less than 1, got 1"),
        ("[model]\nd-model = 130", "model.d-model 130 is not a multiple of model.n-heads 4; give model.d-head"),
        ("[task]\noperation = 'ad'", "task.operation: input should be 'add', 'subtract'"),
        ("[task", "is not valid TOML"),
        ("[task]\np = 7\np = 8", "is not valid TOML"),
        ("\xff", "is not valid TOML"),
    ],
)
def test_a_file_of_fields_that_cannot_be(text: str, expected: str, refused: Refused):
    Path("bad.toml").write_bytes(text.encode("latin-1"))
    complaint = refused("train", "--config", "bad.toml")
    assert complaint.startswith("bad.toml")
    assert expected in complaint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?"),
        ("resume", "interp resume needs RUN; see interp resume --help"),
        ("plot", "interp plot needs RUN and NAME; see interp plot --help"),
        ("plot run learning_curve", "unknown analysis 'learning_curve'; did you mean 'learning_curves'?"),
        (
            "plot run learning_curves -o figure.gif",
            "figure.gif ends in '.gif'; a figure is written as .html, .json, .png, .svg or .pdf",
        ),
        (
            "plot run learning_curves -o figure",
            "figure ends in 'nothing'; a figure is written as .html, .json, .png, .svg or .pdf",
        ),
        ("analyze run weigth_norms", "unknown analysis 'weigth_norms'; did you mean 'weight_norms'?"),
        ("analyze run --jsn", "unknown option --jsn; did you mean --json?"),
        ("thin run", "interp thin needs --keep-every INT; see interp thin --help"),
        ("thin run --keep-evry 2", "unknown option --keep-evry; did you mean --keep-every?"),
        ("thin run --keep-every 0", "--keep-every must be at least 1, got 0"),
        ("list nowhere", "there is no folder nowhere"),
        ("explain run --step abc", "step must be a step number, got 'abc'"),
        ("explain .", ". is not a run: it has no run.json; it holds runs, such as run"),
        ("train --log tensorboard", "unknown --log 'tensorboard'; known: wandb"),
        ("train --device gpu", "unknown device 'gpu'; known: cpu, cuda"),
        ("resume run", "run is complete: it has reached step 20"),
        ("verify run other", "unexpected 'other'; see interp verify --help"),
    ],
)
def test_a_command_that_cannot_be(arguments: str, expected: str, refused: Refused):
    assert refused(*arguments.split()) == expected


# ---- runs that are none, or damaged ----------------------------------------------------------------------------------

READING = (
    ["info"],
    ["verify"],
    ["analyze"],
    ["plot", "weight_norms"],
    ["report"],
    ["explain"],
    ["resume"],
    ["thin", "--keep-every=10"],
)
COMPUTING = (["verify"], ["analyze", "weight_norms"], ["plot", "weight_norms"])


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_folder_that_is_no_run(command: list[str], refused: Refused):
    Path("foreign").mkdir()
    Path("foreign/model.pt").write_text("weights of somebody")
    name, *rest = command
    assert refused(name, "nowhere", *rest) == "there is no run at nowhere; `interp list` shows those under a folder"
    assert refused(name, "foreign", *rest) == "foreign is not a run: it has no run.json"
    assert (
        refused(name, "foreign/model.pt", *rest)
        == "there is no run at foreign/model.pt; `interp list` shows those under a folder"
    )


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_format_of_the_future(command: list[str], refused: Refused):
    info = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(info | {"format": 3}))
    assert (
        refused(command[0], "run", *command[1:])
        == "run/run.json has format version 3; this version of interp reads 1 and 2"
    )


def test_a_damaged_checkpoint(damage: Any, refused: Refused):
    damage.happen_to(Path(STEP))
    for command in COMPUTING:
        # What was computed from the sound checkpoints before it is kept, as after an interruption.
        complaint = refused(command[0], "run", *command[1:])
        assert re.match(rf"(cannot read )?{STEP}.* ?({damage.words})", complaint)


def test_no_report_is_made_of_a_damaged_run(refused: Refused):
    Path(STEP).write_bytes(Path(STEP).read_bytes()[:-1] + b"\xff")
    assert f"{STEP} was altered" in refused("report", "run")


def test_a_folder_of_runs_is_not_resumed_and_the_commands_are_told(run: Path, refused: Refused):
    Path("several").mkdir()
    for seed in range(7):
        shutil.copytree("run", f"several/seed{seed}")
        if seed == 1:
            assert refused("resume", "several") == (
                "several is no run but a folder of 2 runs, none of them unfinished: interp list several"
            )
        if seed > 0:
            cut(Path(f"several/seed{seed}"))
    commands = " && ".join(f"interp resume several/seed{seed}" for seed in range(1, 5))
    assert refused("resume", "several") == (
        f"several is no run but a folder of 7 runs, 6 of them unfinished, and resume takes one: {commands}, and so on "
        "with 2 others of `interp list several --where state=unfinished`"
    )
    shutil.rmtree("several/seed5")
    shutil.rmtree("several/seed6")
    assert refused("resume", "several").endswith(f"resume takes one: {commands}")


def cut(run: Path) -> None:
    """As a run that was killed just before its end."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    info = {name: value for name, value in json.loads((run / "run.json").read_text()).items() if name != "end"}
    (run / "run.json").write_bytes(with_sum(info))


def test_a_run_is_not_resumed_from_a_damaged_state(run: Path, refused: Refused):
    cut(Path("run"))
    state = Path("run/state/step_000000020.safetensors")
    state.write_bytes(state.read_bytes()[:-1])
    assert f"{state} is damaged" in refused("resume", "run")


PLACES = {
    "run.json": (b"{", b'"task": ', b'"operation', b'"threads": ', b'"hash": "'),
    "split.safetensors": (b"", b'"dtype":"', b'"shape":['),
    "metrics.jsonl": (b"{", b'"step', b'"train_loss": ', b'"weights', b'"weights": "'),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("command", READING[:-1], ids=lambda command: command[0])
def test_other_files_that_are_damaged(command: list[str], name: str, refused: Refused):
    content = Path("run", name).read_bytes()
    for mark in PLACES[name]:
        place = content.index(mark) + len(mark)
        Path("run", name).write_bytes(content[:place] + b"#" + content[place:])
        assert f"run/{name}" in refused(command[0], "run", *command[1:])


def test_one_character_too_many_at_any_place_of_a_line(run: Path):
    """But within the name of a metric: there it makes another metric, and everybody may have their own."""
    path = Path("run/metrics.jsonl")
    line, *others = path.read_text().splitlines(keepends=True)
    assert '"weights": ' in line
    names = {place for match in re.finditer(r'"\w+_\w+"', line) for place in range(match.start() + 1, match.end())}
    for place in sorted(set(range(len(line))) - names):
        path.write_text("".join([line[:place], "#", line[place:], *others]))
        with pytest.raises(InputError, match=r"^run/metrics\.jsonl is damaged at line 1: "):
            _ = open_run("run").rows
