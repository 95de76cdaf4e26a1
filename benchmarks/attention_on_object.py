"""Does one method look at the object and the other at the background? Measured on two recorded runs.

    python benchmarks/attention_on_object.py [RUN RUN] [--target predicted] [--page FILE.html]

Runs must have been made with Grad-CAM maps (`cams: true` in the spec) on data with masks, such as shields; the default
is the two recorded demo runs, min and finetune. Prints one JSON object: energy inside the object's mask and the
pointing game of both at every step and by task, with 95 % bootstrap intervals over images, the mask's share of the
image (what a map without preference gets), and the paired difference over the images of classes seen.
"""

import argparse
import json
import sys
from pathlib import Path

from cillab.core.errors import CillabError
from cillab.figures import on_object
from cillab.figures.on_object import OnObject, compare, read_on_object
from cillab.runs import Run


def numbers(data: OnObject) -> dict[str, object]:
    over = {name: dict(zip(data.steps, rows.tolist(), strict=True)) for name, rows in data.over.items()}
    return {
        "learner": data.name,
        "images": data.images,
        "mask_share": data.chance,
        "mean_low_high_by_step": over,
        "mean_low_high_by_task_at_the_end": {name: rows.tolist() for name, rows in data.by_task.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--target", default="predicted", choices=("true", "predicted", "difference"))
    parser.add_argument("--page", type=Path, help="also write the figure as a page of its own")
    options = parser.parse_args()
    if len(options.runs) not in (0, 2):
        parser.error("give two runs, or none for the demo runs")
    if not options.runs:
        from cillab.demo import HERE  # noqa: PLC0415

        options.runs = [HERE / "min", HERE / "finetune"]
    try:
        one, other = runs = [Run(path) for path in options.runs]
        read = [read_on_object(run, target=options.target) for run in runs]
    except CillabError as error:
        sys.exit(str(error))
    if None in read:
        sys.exit("Both runs need Grad-CAM maps of images whose object is known: record them anew with cams on shields.")
    said = {
        step: [{**vars(c), "sentence": c.sentence} for c in compare(one, other, step, target=options.target)]
        for step in runs[0].steps
        if step in runs[1].steps
    }
    result = {
        "target": options.target,
        "runs": [numbers(data) for data in read if data is not None],
        "paired_difference_by_step": said,
        "statement": [c.sentence for c in compare(one, other, target=options.target)],
    }
    print(json.dumps(result, indent=2))
    if options.page:
        named = dict(zip((run.name for run in runs), runs, strict=True))
        options.page.write_text(on_object(named, target=options.target).html(include_plotlyjs=True), encoding="utf-8")


if __name__ == "__main__":
    main()
