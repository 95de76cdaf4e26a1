"""The ledger of published results: run an entry, compare, and write the page of what was and was not reproduced."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cillab.core.errors import IncompatibleError
from cillab.geometry.seeds import t_interval
from cillab.lab.spec import RunSpec
from cillab.protocol.ledger import Published, entry_of, ledger
from cillab.runs import Run

ROOT = Path("runs") / "reproduce"


@dataclass(frozen=True)
class Reproduction:
    """An entry and the runs of it that are there."""

    entry: Published
    runs: tuple[Run, ...]

    @property
    def stand_in(self) -> tuple[str, ...]:
        """In what the runs differ from the published protocol: then their numbers do not judge the published ones."""
        found = []
        for run in self.runs[:1]:
            p, e = run.protocol, self.entry
            asked = {"backbone": e.backbone, "transform": e.transform, "order": e.order}
            found += [f"{name} {getattr(p, name)}" for name, value in asked.items() if getattr(p, name) != value]
            own = {name: _given(run.info.spec.get("params", {}), name) for name in e.params}
            found += [f"{name} {own[name]}" for name, value in e.params.items() if own[name] != value]
            if e.data not in p.data:
                found.append(f"data {p.data}")
            if len(run.info.class_names) != e.classes:
                found.append(f"{len(run.info.class_names)} classes")
            found += [f"{n} {getattr(p, n)}" for n in ("train_per_class", "test_per_class") if getattr(p, n)]
            if size := run.info.spec.get("image_size"):  # asked for: other than the weights were made for
                found.append(f"image_size {size}")
        return tuple(found)

    def ours(self, number: str) -> list[float]:
        """Our values of `a_last` or `a_avg`, percent, one per class order."""
        values = (getattr(run.result, number) for run in self.runs if run.result is not None)
        return [100 * value for value in values]

    @property
    def trend(self) -> float | None:
        """Correlation of the steps of our accuracy curve with those of the published one, over the same class order.

        Both fall when hard classes come, whatever the backbone: 1 = they rise and fall at the same tasks, about 0 =
        another order or other data. None without a public curve of three tasks, a run over the published order,
        or any movement.
        """
        published = np.diff(self.entry.curve)
        for run in self.runs:
            if run.protocol.seed == self.entry.seed and run.result is not None:
                ours = np.diff(run.result.accuracy_seen)
                if len(ours) == len(published) > 1 and ours.std() > 0 and published.std() > 0:
                    return float(np.corrcoef(ours, published)[0, 1])
        return None

    @property
    def verdict(self) -> str:
        """One word or a short sentence."""
        if not self.runs:
            return "not run here"
        if self.stand_in and all(one.startswith("backbone ") for one in self.stand_in):
            return "same protocol, other backbone: trend only"
        if self.stand_in:
            return "stand-in: judges the code, not the number"
        off = [
            abs(sum(own) / len(own) - value)
            for number, value in (("a_last", self.entry.a_last), ("a_avg", self.entry.a_avg))
            if value is not None and (own := self.ours(number))
        ]
        if max(off) <= self.entry.tolerance:
            return f"reproduced within {self.entry.tolerance:g}"
        return f"differs by {max(off):.1f} points"


def spec_for(entry: Published, seed: int, out: Path, instead: Mapping[str, Any]) -> RunSpec:
    """The request that runs an entry; `instead` replaces data, backbone, weights and the like.

    Raises:
        IncompatibleError: no learner here can run it, or its weights are on no hub and none are given instead.
    """
    if entry.learner is None:
        raise IncompatibleError(f"{entry.name} cannot run here: {entry.note}. Its curve can be laid over a run.")
    if not entry.backbone and "backbone" not in instead:
        raise IncompatibleError(f"{entry.name}: its weights are on no hub ({entry.source}); name others: --backbone.")
    asked = {
        "data": entry.data, "split": entry.split, "order": entry.order, "seed": seed, "backbone": entry.backbone,
        "transform": entry.transform, "learner": entry.learner, "params": entry.params,
        "train_probe_per_class": 2, "keep_checkpoints": "none", "probe_points": 100,
    }  # fmt: skip
    folder = out / entry.name.replace("/", "-") / f"seed{seed}"
    return RunSpec.of({**asked, **instead, "out": str(folder)}, entry.name)


def reproduce(name: str, seeds: Sequence[int], out: Path, instead: Mapping[str, Any]) -> Iterator[Any]:
    """Run an entry once per seed; runs that are there are kept. Yields the steps of the runs, last a Reproduction.

    Raises:
        CillabError: as `spec_for`, and whatever the run refuses.
    """
    from cillab.lab.engine import Lab  # noqa: PLC0415 - torch: not for the page

    entry = entry_of(name)
    for seed in seeds or [entry.seed]:
        spec = spec_for(entry, seed, out, instead)
        path = spec.folder()
        if (path / "result.json").is_file():
            continue
        lab = Lab.resume(path) if (path / "run.json").is_file() else Lab.from_spec(spec)
        yield from lab
    yield found_of(entry, out)


def found_of(entry: Published, out: Path) -> Reproduction:
    """What has been run of an entry below `out`."""
    folders = sorted((out / entry.name.replace("/", "-")).glob("seed*"))
    return Reproduction(entry, tuple(Run(path) for path in folders if (path / "result.json").is_file()))


def compared(found: Reproduction) -> str:
    """Published, tolerance, ours, verdict; task by task where the curve is public."""
    entry, lines = found.entry, [f"{found.entry.name}  ({found.entry.source})"]
    for number, value in (("A_last", entry.a_last), ("A_avg", entry.a_avg)):
        own = found.ours(number.lower())
        said = "-" if value is None else f"{value:.2f} +- {entry.tolerance:g}"
        lines.append(f"  {number:<7} published {said:<16} ours {_interval(own) or '-'}")
    if entry.curve and found.runs:
        result = found.runs[0].result
        assert result is not None
        lines.append(f"  task    published   ours (seed {found.runs[0].protocol.seed})")
        for task, (theirs, ours) in enumerate(zip(entry.curve, result.accuracy_seen, strict=False)):
            lines.append(f"  {task + 1:<7} {theirs:9.2f}  {100 * ours:6.2f}  {100 * ours - theirs:+6.2f}")
    if found.trend is not None:
        lines.append(f"  steps of both curves correlate with {found.trend:.2f}")
    if found.stand_in:
        lines.append(f"  other than published: {', '.join(found.stand_in)}")
    if entry.note:
        lines.append(f"  note: {entry.note}")
    return "\n".join([*lines, f"  {found.verdict}"])


def page(out: Path) -> str:
    """The whole ledger as Markdown."""
    rows = [found_of(entry, out) for entry in ledger().values()]
    ran = [row for row in rows if row.runs]
    lines = [
        "# Reproduction ledger", "",
        f"{len(rows)} published results; {len(ran)} of them were run here"
        f" ({sum(bool(row.stand_in) for row in ran)} with other weights or fewer images). Percent; ± is half of a 95 %"
        " t-interval over class orders.", "",
        "    cillab reproduce simplecil/cifar100-inc5", "",
        "runs an entry as it was published and says how near it came, task by task where the authors' curve is public.",
        "`--data`, `--backbone`, `--weights`, `--image-size`, `--train-per-class` and `--test-per-class` take others"
        " instead: such a run shows that code and protocol work from end to end, and says nothing about the number.",
        "Where the backbone alone differs the verdict is *same protocol, other backbone: trend only*. `trend` is the"
        " correlation of the changes from task to task with those of the published curve, over the published class"
        " order. Both fall when hard classes come, so 1 means at the same tasks and 0 nothing in common.",
        "An entry's curve can be laid over a run: `figures.accuracy(run, published=\"ease/cifar100-inc5\")`.", "",
        "Made by `cillab reproduce --page FILE`.", "",
    ]  # fmt: skip
    if ran:
        lines += ["## Run here", "", *_table(ran), ""]
    why = "Weights or data out of reach, or no learner here that could run it (its curve can be laid over a run)."
    lines += ["## Not run here", "", why, "", *_table([row for row in rows if not row.runs]), ""]
    return "\n".join(lines)


def _table(rows: Sequence[Reproduction]) -> list[str]:
    heads = (
        "entry", "data", "split", "order, seed", "backbone", "transform", "settings", "A_avg", "A_last", "tolerance",
        "ours A_avg", "ours A_last", "trend", "verdict", "source",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for row in rows:
        e = row.entry
        settings = ", ".join(f"{k}={v}" for k, v in e.params.items())
        verdict = row.verdict if e.learner else "cannot run here"
        if row.stand_in:
            orders = "1 order" if len(row.runs) == 1 else f"{len(row.runs)} orders"
            arithmetic = sorted({run.info.precision for run in row.runs} - {"fp32"})
            verdict += f" ({', '.join([*row.stand_in, *arithmetic])}; {orders})"
        cells = (
            e.name, e.data, e.split, f"{e.order}, {e.seed}", e.backbone or "the authors' own", e.transform, settings,
            _number(e.a_avg), _number(e.a_last), f"{e.tolerance:g}", _interval(row.ours("a_avg")),
            _interval(row.ours("a_last")), _number(row.trend), verdict, f"{e.source}; {e.note}" if e.note else e.source,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |")
    return lines


def _given(params: Any, name: str) -> Any:
    """The value of a run's `fit.lr`; a run spells out all of them."""
    for step in name.split("."):
        params = params.get(step) if isinstance(params, Mapping) else None
    return params


def _interval(values: Sequence[float]) -> str:
    if not values:
        return ""
    found = t_interval(list(values))
    return f"{found.mean:.2f}" if len(values) < 2 else f"{found.mean:.2f} ± {found.half_width:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
