"""The dial for size, and what it is when nothing is said."""

import pytest
import torch

from minildm import MinildmError, budget


def test_the_budget_follows_what_is_said_then_the_grader_then_the_hardware(monkeypatch):
    def found():
        return budget(smoke=1, cpu=2, gpu=3)

    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setenv("MINILDM_BUDGET", "gpu")
    assert found() == 3
    monkeypatch.delenv("MINILDM_BUDGET")
    assert found() == (3 if torch.cuda.is_available() else 2)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert found() == 1
    monkeypatch.setenv("MINILDM_BUDGET", "cpu")         # an instructor may want more
    assert found() == 2
    monkeypatch.setenv("MINILDM_BUDGET", "huge")
    with pytest.raises(MinildmError, match="smoke, cpu or gpu"):
        found()
