"""What the command line shows while something runs: bars on a terminal, plain lines anywhere else. Text only."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bars, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from cillab.core.contract import Progress
    from cillab.lab.engine import Lab, Step
    from cillab.lab.estimate import Estimate

_LINE_S = 15.0  # between two lines inside a long stage, when there are no bars


def follow(lab: "Lab", console: Console) -> None:
    """Run what is left of `lab` and show it."""
    if console.is_terminal:
        _with_bars(lab, console)
    else:
        _with_lines(lab, console)


def step_line(step: "Step", tasks: int) -> str:
    """One finished task in one line; percent, because it is for people."""
    accuracy = step.accuracy
    old = "" if accuracy.old is None else f"  old {percent(accuracy.old)}"
    return (
        f"task {step.task + 1}/{tasks}  {len(step.classes)} classes  seen {percent(accuracy.seen)}{old}"
        f"  new {percent(accuracy.new)}  NC1 {step.collapse.nc1:.3g}"
        f"  learn {step.seconds['learn']:.1f} s  probe {step.seconds['probe']:.1f} s"
    )


def percent(fraction: float | None) -> str:
    """`87.3 %`, or a dash."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def estimate_line(found: "Estimate") -> str:
    """What a run would take, in one line."""
    return (
        f"about {found.total_s / 60:.1f} min ({found.learn_s / 60:.1f} learning, {found.look_s / 60:.1f} looking): "
        f"{found.tasks} tasks, {found.classes} classes, {found.train_images} training images on {found.device}"
    )


def result_lines(lab: "Lab") -> Iterable[str]:
    """The end of a run: its numbers, and where to look at them."""
    result = lab.run.result
    if result is None:
        return
    yield (
        f"A_last {percent(result.a_last)}  A_avg {percent(result.a_avg)}  "
        f"forgetting {percent(result.forgetting_chaudhry)}  in {result.seconds['total']:.0f} s  ->  {lab.path}"
    )


def _with_bars(lab: "Lab", console: Console) -> None:
    from cillab.lab.engine import Step  # noqa: PLC0415 - whoever has a lab has loaded it already

    columns = (TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True) as bars:
        tasks = bars.add_task("tasks", total=len(lab), completed=lab.finished, note="")
        stage = bars.add_task("", total=None, note="")
        current = None
        for event in lab.events():
            if isinstance(event, Step):
                console.print(step_line(event, len(lab)), highlight=False, markup=False)
                bars.update(tasks, completed=lab.finished)
                continue
            if event.stage != current:
                current = event.stage
                bars.reset(stage, description=current, total=event.total, note="")
            bars.update(stage, completed=event.done, total=event.total, note=_note(event))


def _with_lines(lab: "Lab", console: Console) -> None:
    from cillab.lab.engine import Step  # noqa: PLC0415

    said = time.monotonic()
    for event in lab.events():
        if isinstance(event, Step):
            console.print(step_line(event, len(lab)), highlight=False, soft_wrap=True, markup=False)
            said = time.monotonic()
        elif time.monotonic() - said >= _LINE_S:
            said = time.monotonic()
            share = event.done / max(1, event.total)
            line = f"task {lab.finished + 1}/{len(lab)}  {event.stage} {percent(share)}  {_note(event)}"
            console.print(line, highlight=False, soft_wrap=True, markup=False)


def _note(event: "Progress") -> str:
    words = []
    if event.epochs:
        words.append(f"epoch {event.epoch + 1}/{event.epochs}")
    if event.loss is not None:
        words.append(f"loss {event.loss:.3f}")
    if event.images_per_second:
        words.append(f"{event.images_per_second:.0f} images/s")
    return "  ".join(words)
