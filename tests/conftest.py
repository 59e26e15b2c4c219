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


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, in which pages are tested."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "the report is tested in a browser: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_page(browser):
    """Opens a report from its file, and waits until it is ready. The page remembers in `trouble` everything that went wrong in it, and
    in `requests` every address that was asked for."""

    def open_page(path: Path, address: str = "", **options):
        page = browser.new_page(**({"viewport": {"width": 1200, "height": 900}} | options))
        page.trouble, page.requests = [], []
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("console", lambda message: page.trouble.append(message.text) if message.type in ("error", "warning") else None)
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(path.as_uri() + address)
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        return page

    return open_page
