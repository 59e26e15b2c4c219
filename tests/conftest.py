"""Before anything imports interp: check every annotation, shapes included, while the tests run; and one thread for small models."""

import inspect
import shutil
import signal
from pathlib import Path

import jaxtyping
import pytest
import torch

# The numeric tower of PEP 484, where an int may stand for a float: `lr=1`.
jaxtyping.install_import_hook("interp", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

from interp import ModelConfig, Task, TrainingConfig  # noqa: E402  (after the hook, which must see interp being imported)

# These check what they are given themselves, with errors for a person, which a type checker in front of them would hide.
for configuration in (Task, ModelConfig, TrainingConfig):
    configuration.__init__ = inspect.unwrap(configuration.__init__)

torch.set_num_threads(1)
# What a shell starts in the background ignores Ctrl-C, and so does all that it starts; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def run(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sound run that a file of tests has as its `original`, called `run` in the folder we stand in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("interp.progress.LINE_INTERVAL_SECONDS", 1000)  # a busy machine has more to say
    return Path(shutil.copytree(original, "run"))
