"""Recorded runs that ship with the package, so that there is something real to see before anything is trained."""

from pathlib import Path

HERE = Path(__file__).parent


def demo_runs() -> dict[str, Path]:
    """Folders of the recorded runs by name, the one to see first in front. Complete run folders, slim checkpoints."""
    found = sorted(HERE.glob("[!.]*/run.json"), reverse=True)  # min before finetune
    return {path.parent.name: path.parent for path in found}
