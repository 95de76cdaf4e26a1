"""Recorded runs that ship with the package, so that there is something real to see before anything is trained."""

from pathlib import Path

HERE = Path(__file__).parent
_ORDER = ("min", "ncptm", "dmc-ot", "finetune", "slca", "dualprompt")
LOOK_FOR = {
    "min": "Turn its noise off: 44 % of the answers change, 78 % right become 58 %. Its rate was chosen to show it.",
    "ncptm": "The frame turns when it grows, and the answers stay: compare drift and accuracy of old tasks.",
    "dmc-ot": "Calibration moves the remembered Gaussians after the encoder: W2 to the true ones 2.4 to 0.9 at task 4.",
    "finetune": "Press another head at the last step: 51 % of the images are right, 71 % by class means.",
    "slca": "Remembered Gaussians align the head: at the last step 53 % of the images were right before, 70 % after.",
    "dualprompt": "37 % of the images choose their own task's prompt, none that of the last: see Inside the method.",
}
"""What to look for in each recorded run, one line."""


def demo_runs() -> dict[str, Path]:
    """Folders of the recorded runs by name, the one to see first in front. Complete run folders, slim checkpoints."""
    found = {path.parent.name: path.parent for path in HERE.glob("[!.]*/run.json")}
    rank = {name: index for index, name in enumerate(_ORDER)}
    return dict(sorted(found.items(), key=lambda item: (rank.get(item[0], len(rank)), item[0])))
