"""A reopened learner says exactly what the run recorded; what is gone is named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cillab.core.errors import RunError
from cillab.lab import Lab, reopen as module
from cillab.lab.checkpoints import read_states
from cillab.lab.prepare import Ready
from cillab.lab.reopen import reopen
from cillab.lab.slim import slim
from tests.lab.fakes import Line, Tiny, squares


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "prepare", lambda spec: Ready(spec, squares(), line := Line(), Tiny(line)))
    list(Lab(squares(), Tiny(Line()), tmp_path / "run", probe_points=12, train_probe_per_class=4))
    return tmp_path / "run"


@pytest.mark.parametrize("task", [0, 1, -1])
def test_same_answers_as_recorded(path: Path, task: int) -> None:
    from cillab.runs import Run

    opened, shot = reopen(path, task), Run(path).snapshot(task)
    with torch.no_grad():
        logits = opened.learner.logits(opened.probe_images.images)
    np.testing.assert_array_equal(logits.half().numpy(), shot["logits"])
    assert opened.learner.seen == tuple(shot["seen"].tolist())


def test_slimmed_can_be_looked_at_and_only_its_last_task(path: Path) -> None:
    slim(path)
    assert reopen(path).task == 2
    with pytest.raises(RunError, match=r"after task 1 \(task=0\)\. Kept: after task 3\."):
        reopen(path, 0)


def test_other_images_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare", lambda spec: Ready(spec, squares(seed=5), line := Line(), Tiny(line)))
    with pytest.raises(RunError, match="other images"):
        reopen(path)


def test_a_damaged_checkpoint_is_named(path: Path) -> None:
    file = path / "checkpoints" / "t02.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"t02\.safetensors is damaged"):
        reopen(path)


def test_no_damage_of_a_checkpoint_changes_a_number(path: Path) -> None:
    """Bits, lengths and bytes put in: one line that names the file, or the same state as before."""
    file, dice = path / "checkpoints" / "t02.safetensors", np.random.default_rng(0)
    content = file.read_bytes()

    def said() -> dict | None:
        try:
            states, _ = read_states(file)
        except RunError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            return None
        return {f"{part}/{name}": (t.shape, t.dtype, t.numpy().tobytes(), repr(state.meta))
                for part, state in states.items() for name, t in state.tensors.items()}  # fmt: skip

    whole, refused = said(), 0
    assert whole
    for at in dice.integers(len(content), size=120).tolist():
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(dice.integers(8))
        for changed in (flipped, content[:at], content[:at] + b"\0" * 8 + content[at:]):
            file.write_bytes(changed)
            found = said()
            refused += found is None
            assert found is None or found == whole, at
    assert refused > 300  # what is accepted are blanks behind the header and names of the checksum itself
