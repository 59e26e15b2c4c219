"""Fewer samples in a bootstrap: the verdicts here do not hang on the third digit."""

import pytest

from interp.mathematics import bootstrap


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 100)
