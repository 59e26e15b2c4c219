"""A run in other people's formats: for TransformerLens, for the Hugging Face Hub, and as plain arrays."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch

from interp.errors import InputError, check_choice
from interp.experiment import FIELDS_OF_OTHERS, Operations, Task, section_to_dict
from interp.interchange.answers import answers_of
from interp.interchange.exporting.card import model_card
from interp.machine import built_beside, write_atomically
from interp.models import bridge_options, classic_state, weight_shapes
from interp.runs import Run, check_has_phases, run_of, step_name

TARGETS = ("transformer-lens", "huggingface", "numpy")
CARD_FIGURES = ("learning_curves", "embedding_spectrum")


def export_run(run: Run | str | Path, to: str, out: str | Path, *, figures: Sequence[str] | None = None) -> Path:
    """Write a run into the new folder `out`, whole or not at all; the folder is returned.

    "transformer-lens": `checkpoints/step_*.safetensors` with classic state dicts, `config.json`, `prompt.json`, and
    `load_checkpoint.py`, which loads one into a `TransformerBridge`, by `checkpoint_index` (negative from the end) or
    `checkpoint_value` (the step). "huggingface": `model.safetensors` (the last checkpoint), `config.json`,
    `checkpoints/step_*.safetensors`, `metrics.jsonl`, and the model card `README.md` with the `figures` of these
    analyses, drawn (by default CARD_FIGURES). "numpy": for every tensor `NAME.npy` [checkpoint, …] float32,
    `steps.npy`, `labels.npy`, `metrics.jsonl`, `config.json`. All have `train_indices`, as JSON or npy, where they are
    known, and `import_run` reads all of them back.

    Raises InputError where the folder is taken, for a network that TransformerLens cannot express, and for one of
    several operations in any but the last, which `import_run` does not read back.

    >>> import interp
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     written = export_run(interp.reference_path(), "numpy", f"{folder}/arrays")
    ...     np.load(written / "embed.W_E.npy").shape  # checkpoint, residues and `=`, d_model
    (53, 44, 32)
    """
    check_choice("--to", to, TARGETS)
    run, out = run_of(run), Path(out)
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out} already exists; choose another --out")
    if isinstance(task := run.task, Operations) and to != "numpy":
        raise InputError(
            f"--to {to} writes the network of one operation, and {run.path} has several ({task.title}); `interp "
            f"extract {run.path} {task.operations[0]}` makes a run of one, which can be; --to numpy writes all of it"
        )
    if not run.steps:
        raise InputError(f"{run.path} has no checkpoints yet")
    writers: dict[str, Callable[[Run, Path], None]] = {
        "transformer-lens": _transformer_lens,
        "huggingface": lambda run, folder: _huggingface(run, folder, CARD_FIGURES if figures is None else figures),
        "numpy": _numpy,
    }
    with built_beside(out) as fresh:
        writers[to](run, fresh.path)
    return out


def push(folder: Path, repository: str) -> str:
    """Upload an exported folder to a repository `OWNER/NAME` of the Hugging Face Hub, made if it is not there; its
    address is returned.

    Raises InputError for what the Hub refuses. The token is the one that `hf auth login` stored.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise InputError("--push needs huggingface_hub; install it with: pip install 'interp[hub]'") from None
    try:
        client = huggingface_hub.HfApi()
        address = str(client.create_repo(repository, repo_type="model", exist_ok=True))
        client.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Upload a run of interp")
    # its own kinds, those of its transport, and of the file system; all mean that nothing is to be relied on
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{folder} was not pushed to {repository}: {first}") from None
    return address


def _write_json(path: Path, values: object) -> None:
    write_atomically(path, json.dumps(values, indent=2).encode() + b"\n")


def _metrics(run: Run, folder: Path) -> None:
    lines = (json.dumps({name: value for name, value in row.items() if name != "weights"}) + "\n" for row in run.rows)
    write_atomically(folder / "metrics.jsonl", "".join(lines).encode())


def _configuration(run: Run) -> dict[str, object]:
    """What an import reads again; of a module without the fields of our own networks."""
    others = FIELDS_OF_OTHERS["module"] if run.model.is_recorded else ()
    return {
        "model_type": "interp",
        "task": section_to_dict(run.task),
        "model": {name: value for name, value in section_to_dict(run.model).items() if name not in others},
        "training": section_to_dict(run.training) if run.training is not None else None,
        "checkpoint_labels": [run.steps, "step"],
        **({"answers": answers_of(run.last).to_dict()} if isinstance(run.task, Task) else {}),
    }


def _write_split(run: Run, folder: Path) -> None:
    """The training pairs a·p + b, where they are known: an import finds them under this name."""
    if run.task.split_known:
        _write_json(folder / "train_indices.json", run.task.train_indices.tolist())


def _transformer_lens(run: Run, folder: Path) -> None:
    _write_json(folder / "config.json", bridge_options(run.last.weights, run.model))
    tokens = {"p": run.task.p, "first_token_of_b": run.model.first_token_of_b(run.task.p)}
    _write_json(folder / "prompt.json", tokens | {"prompt": run.model.prompt, "answer_at": run.model.answer_at})
    _write_split(run, folder)
    write_atomically(folder / "load_checkpoint.py", (Path(__file__).parent / "load_checkpoint.py").read_bytes())
    (folder / "checkpoints").mkdir()
    for checkpoint in run:
        state = classic_state(checkpoint.weights, run.model)
        write_atomically(folder / "checkpoints" / step_name(checkpoint.step), safetensors.torch.save(state))


def _huggingface(run: Run, folder: Path, figures: Sequence[str]) -> None:
    check_has_phases(run, "a model card")
    if run.model.is_recorded:
        raise InputError(
            f"{run.path} has only the recorded answers of a module; its own files are what others can load. "
            "`--to numpy` writes what was recorded as arrays"
        )
    from interp.analysis import find
    from interp.figures import write_figure

    _write_json(folder / "config.json", _configuration(run))
    _write_split(run, folder)
    write_atomically(folder / "model.safetensors", safetensors.torch.save(run.last.weights, {"format": "pt"}))
    (folder / "checkpoints").mkdir()
    for checkpoint in run:
        content = safetensors.torch.save(checkpoint.weights, {"format": "pt"})
        write_atomically(folder / "checkpoints" / step_name(checkpoint.step), content)
    _metrics(run, folder)
    for name in figures:
        (folder / "figures").mkdir(exist_ok=True)
        write_figure(find(name).module.plot(run.result(name)), folder / "figures" / f"{name}.png")
    write_atomically(folder / "README.md", model_card(run, figures).encode())


def _numpy(run: Run, folder: Path) -> None:
    steps = run.steps
    np.save(folder / "steps.npy", np.array(steps))
    if run.task.split_known:
        np.save(folder / "train_indices.npy", run.task.train_indices)
    np.save(folder / "labels.npy", run.task.labels)
    _write_json(folder / "config.json", _configuration(run))
    _metrics(run, folder)
    shapes = weight_shapes(run.model, run.task.sizes)
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(len(steps), *shape))
        for name, shape in shapes.items()
    }
    for row, step in enumerate(steps):
        for name, weight in run[step].weights.items():
            arrays[name][row] = weight.numpy()
    for array in arrays.values():
        array.flush()
