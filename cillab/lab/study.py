"""Does collapse predict forgetting? One row per run and old task, from run folders alone, and its rank correlations."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from cillab.core.errors import CillabError, InvalidRequestError
from cillab.core.params import build
from cillab.geometry import nc2
from cillab.geometry.association import (
    Correlation,
    between,
    bootstrapped,
    correlation,
    has_say,
    partial_spearman,
    spearman,
    within,
)
from cillab.geometry.nc1 import nc1_quotient
from cillab.geometry.rows import centre, cosine
from cillab.runs import Run, Snapshot
from cillab.runs.run import no_folder

# What may predict, by name: title, meaning. `then` is right after the task was learnt, `now` after the last task.
MEASURES: dict[str, tuple[str, str]] = {
    "nc1_then": ("NC1 when new", "spread of the task's classes over the distance of all class means, when just learnt"),
    "nc1_now": ("NC1 when old", "the same classes after the last task"),
    "nc2_then": ("NC2 when new", "mean |cos + 1/(K - 1)| of pairs inside the task, when just learnt"),
    "nc2_now": ("NC2 when old", "the same pairs after the last task"),
    "nc3_then": ("NC3 when new", "1 - cosine of head row and centred class mean, when just learnt"),
    "nc3_now": ("NC3 when old", "the same after the last task"),
    "nc4_then": ("NC4 when new", "share of images on which head and nearest mean agree, when just learnt"),
    "nc4_now": ("NC4 when old", "the same classes after the last task"),
    "angle_drift": (
        "Drift of angles",
        "degrees that class means turned, seen from the centre of the classes known then",
    ),
    "mean_drift": ("Drift of means", "move of class means over the spread inside the class, from then to now"),
    "stale": ("Stored against measured", "stored class mean against today's, over today's spread inside the class"),
}
OUTCOMES: dict[str, tuple[str, str]] = {
    "forgetting": ("Forgetting", "accuracy on the task when just learnt minus accuracy after the last task"),
    "deep": ("Deep forgetting", "what a fresh ridge loses too, among the classes known then: lost by the features"),
    "shallow": ("Shallow forgetting", "the rest: lost by the head, and to the crowd of new classes"),
}
_DIGITS, _DECIMALS = 8, 9  # of a number, from a run as from a table: rounding would put equal accuracies in an order
_STILL = 4  # decimals of drift, degrees or spreads: frozen features move by rounding alone, and ranks would see it
CONTROL = "accuracy_then"  # accuracy on the task when just learnt: held fixed in the partial correlation
NAMES = (*MEASURES, *OUTCOMES, CONTROL)
HEAD = ("protocol", "method", "family", "simplex", "seed", "task")


class Row(NamedTuple):
    """What one task of one run has to say."""

    protocol: str
    method: str
    family: str
    simplex: bool
    seed: int
    task: int
    values: Mapping[str, float]  # by NAMES


@dataclass(frozen=True, eq=False)
class Observations:
    """One row per run and task that is not its last."""

    columns: Mapping[str, Float[np.ndarray, " row"]]  # names of MEASURES, OUTCOMES and CONTROL
    method: Int[np.ndarray, " row"]  # index into `methods`
    task: Int[np.ndarray, " row"]
    seed: Int[np.ndarray, " row"]
    methods: tuple[str, ...]
    families: tuple[str, ...]  # of each method
    simplex: tuple[bool, ...]  # has a head with one vertex of a simplex per class
    protocol: str  # what all runs share
    left_out: tuple[str, ...]  # runs that say nothing, and why

    def __len__(self) -> int:
        return len(self.method)

    def of_methods(self, name: str) -> Float[np.ndarray, " method"]:
        """Mean of a column over the rows of each method; NaN where there is none."""
        values = self.columns[name]
        groups = [values[(self.method == m) & np.isfinite(values)] for m in range(len(self.methods))]
        return np.array([group.mean() if len(group) else np.nan for group in groups])

    @property
    def family(self) -> Int[np.ndarray, " row"]:
        """Family of each row, as a number."""
        names = sorted(set(self.families))
        return np.array([names.index(self.families[m]) for m in self.method], dtype=np.int64)


@dataclass(frozen=True)
class Association:
    """How one measure goes with one outcome."""

    measure: str
    outcome: str
    all: Correlation
    between: Correlation  # means of the methods
    within: Correlation  # inside each method: tasks and orders
    partial: Correlation  # accuracy when just learnt held fixed
    families: Correlation  # means of the families
    in_family: Correlation  # methods inside each family
    first_task: Correlation  # the first task alone


def observations(paths: Sequence[str | Path]) -> Observations:
    """Read every run under the paths: run folders, folders that hold some, tables that `table` wrote.

    What is given twice counts once, copies too. Where a run is there, it counts, and not its rows in a table: those of
    its method and seed, and those of its numbers, since the table may name settings that set nothing apart here.

    Raises:
        InvalidRequestError: no usable run, a file that is no such table, runs of more than one protocol, or two of one
            method, its settings and seed whose numbers differ: nothing in a row would tell them apart.
    """
    places = list({Path(path).resolve(): Path(path) for path in paths}.values())
    runs, left_out = list[Run](), list[str]()
    for path in _folders([path for path in places if path.suffix != ".csv"]):
        try:
            run = Run(path)
            reason = _unfit(run)
        except CillabError as error:
            left_out.append(f"{path}: {error}")
            continue
        if reason:
            left_out.append(f"{path}: {reason}")
        else:
            runs.append(run)
    named = zip(runs, _labels(runs), strict=True)
    there = _once(((run.path, row) for run, label in named for row in _rows(run, label)), left_out)
    again = {(row.method, row.seed) for row in there} | {_numbers(row) for row in there}
    kept = [(path, row) for path in places if path.suffix == ".csv" for row in _read(path)]
    new = ((path, row) for path, row in kept if again.isdisjoint(((row.method, row.seed), _numbers(row))))
    rows = [*there, *_once(new, left_out)]
    if not rows:
        raise InvalidRequestError(f"No finished run of two tasks or more under {', '.join(map(str, paths))}.")
    one = {row.method: row for row in rows}
    methods = tuple(one)
    return Observations(
        {name: np.array([row.values[name] for row in rows]) for name in NAMES},
        np.array([methods.index(row.method) for row in rows], dtype=np.int64),
        np.array([row.task for row in rows], dtype=np.int64),
        np.array([row.seed for row in rows], dtype=np.int64),
        methods,
        tuple(row.family for row in one.values()),
        tuple(row.simplex for row in one.values()),
        _one_protocol(rows),
        tuple(left_out),
    )


def table(data: Observations) -> str:
    """Every row as CSV, which `observations` reads again in the place of the run folders."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, *NAMES])
    for row, method in enumerate(data.method):
        about = (data.methods[method], data.families[method], data.simplex[method], data.seed[row], data.task[row])
        writer.writerow([data.protocol, *about, *(f"{data.columns[name][row]:.{_DIGITS}g}" for name in NAMES)])
    return out.getvalue()


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        raise InvalidRequestError(f"There is no file {str(path)!r}.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                Row(
                    line["protocol"], line["method"], line["family"], line["simplex"] == "True",
                    int(line["seed"]), int(line["task"]), _held(line),
                )
                for line in csv.DictReader(file)
            ]  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InvalidRequestError(f"{path} is no table of a study: {error}.") from None


def _held(values: Mapping[str, float | str]) -> dict[str, float]:
    """By NAMES, as a table holds them, so that a run and its rows have the same ties."""
    return {name: round(float(f"{float(values[name]):.{_DIGITS}g}"), _DECIMALS) + 0.0 for name in NAMES}  # no -0


def _numbers(row: Row) -> tuple:
    """A row without the settings in its method's name; numbers as words, since NaN is not NaN."""
    return row.protocol, row.method.split()[0], row.seed, row.task, str(row.values)


def _once(found: Iterable[tuple[Path, Row]], left_out: list[str]) -> list[Row]:
    """Every row once; what stands in a second place with the same numbers is added to what was left out."""
    first: dict[tuple, tuple[Path, Row]] = {}
    copies = Counter[tuple[Path, Path]]()
    for path, row in found:
        place, other = first.setdefault((row.protocol, row.method, row.seed, row.task), (path, row))
        if _numbers(other) != _numbers(row):
            both = " and ".join(dict.fromkeys(map(str, (place, path))))
            raise InvalidRequestError(f"{both}: two runs of {row.method} with seed {row.seed} differ. Give one.")
        copies[path, place] += other is not row
    left_out += [f"{path}: {n} rows with the same numbers in {place}" for (path, place), n in copies.items() if n]
    return [row for _, row in first.values()]


def associations(data: Observations, outcome: str = "forgetting", draws: int = 2000) -> list[Association]:
    """Every measure against one outcome; intervals by bootstrap over methods, over families for means of families."""
    y, found = data.columns[outcome], []
    names = sorted(set(data.families))
    family = np.array([names.index(one) for one in data.families], dtype=np.int64)
    first = data.task == 0
    for name in MEASURES:
        x = data.columns[name]
        mean_x, mean_y = data.of_methods(name), data.of_methods(outcome)
        found.append(
            Association(
                name,
                outcome,
                correlation(spearman, x, y, data.method, draws=draws),
                correlation(between, x, y, data.method, draws=draws),
                correlation(within, x, y, data.method, draws=draws),
                correlation(partial_spearman, x, y, data.method, data.columns[CONTROL], draws=draws),
                correlation(between, mean_x, mean_y, family, draws=draws),
                _in_groups(mean_x, mean_y, family, draws),
                correlation(spearman, x[first], y[first], data.method[first], draws=draws),
            )
        )
    return found


def _in_groups(x: np.ndarray, y: np.ndarray, family: np.ndarray, draws: int) -> Correlation:
    """`within` families over the means of methods; methods are drawn, families stay as they are.

    Only methods of families that have a say are counted and drawn: others would only make a draw smaller.
    """
    kept = has_say(x, y, family)
    x, y, family = x[kept], y[kept], family[kept]
    interval = bootstrapped(lambda index, _: within(x[index], y[index], family[index]), np.arange(len(x)), draws)
    return Correlation(within(x, y, family), *interval, len(x), len(np.unique(family)))


def _folders(paths: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        inside = [path] if (path / "run.json").is_file() else sorted(p.parent for p in path.rglob("run.json"))
        if not inside:
            raise InvalidRequestError(f"{path} holds no run." if path.is_dir() else no_folder(path))
        found += inside
    return list({path.resolve(): path for path in found}.values())


def _unfit(run: Run) -> str:
    if run.result is None:
        return "not finished"
    if len(run.task_steps) < 2:
        return "one task: nothing can be forgotten"
    return ""


def _one_protocol(rows: Sequence[Row]) -> str:
    kinds = list(dict.fromkeys(row.protocol for row in rows))
    if len(kinds) > 1:
        said = "; ".join(kinds[:3])
        raise InvalidRequestError(f"The runs have {len(kinds)} protocols ({said}): forgetting can be compared in one.")
    return kinds[0]


def _protocol(run: Run) -> str:
    p = run.protocol
    return ", ".join(str(part) for part in (p.data, p.split, p.backbone, p.transform) if part)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The learner's name; where it was run with several settings, with what sets each apart."""
    kinds: dict[str, list[dict]] = {}
    settings = [_settings(run) for run in runs]
    for run, params in zip(runs, settings, strict=True):
        found = kinds.setdefault(run.protocol.learner, [])
        if params not in found:
            found.append(params)
    labels = []
    for run, params in zip(runs, settings, strict=True):
        name = run.protocol.learner
        several = kinds[name]
        differing = sorted(key for key in params if any(other.get(key) != params[key] for other in several))
        labels.append(name + "".join(f" {key}={params[key]}" for key in differing))
    return labels


def _settings(run: Run) -> dict:
    """Hyper-parameters as today's record spells them out: a field that came later must not part equal runs."""
    from cillab.learners import learners  # noqa: PLC0415 (loads torch, which reading runs does not need)

    name, given = run.protocol.learner, run.spec.get("params", {})
    if name not in learners:
        return given
    try:
        return build(learners[name].Params, given, name).model_dump(mode="json")
    except CillabError:  # written for a record that is no more
        return given


def _declared(run: Run) -> tuple[str, bool]:
    """Family of the learner, and whether its head is a simplex; a learner that is not installed here has neither."""
    from cillab.learners import learners  # noqa: PLC0415 (loads torch, which reading runs does not need)

    name = run.protocol.learner
    if name not in learners:
        return "not installed", False
    can = learners[name].capabilities
    return can.family, can.simplex


def _rows(run: Run, label: str) -> list[Row]:
    """What every task but the last has to say."""
    matrix, last = run.accuracy_matrix(), run.snapshot(run.task_steps[-1])
    protocol, (family, simplex) = _protocol(run), _declared(run)
    found = []
    for task, step in enumerate(run.task_steps[:-1]):
        then = run.snapshot(step)
        of = np.asarray(then["seen"])[np.asarray(then["task_of_class"]) == task].tolist()
        total = float(matrix[task, task] - matrix[-1, task])
        deep = _entry(then, "accuracy/fresh_then", task) - _entry(last, "accuracy/fresh_then", task)
        values = {
            **_state(then, of, "then"),
            **_state(last, of, "now"),
            **_moves(then, last, of),
            "forgetting": total,
            "deep": deep,
            "shallow": total - deep,
            CONTROL: float(matrix[task, task]),
        }
        found.append(Row(protocol, label, family, simplex, int(run.protocol.seed or 0), task, _held(values)))
    return found


def _entry(shot: Snapshot, name: str, task: int) -> float:
    values = np.asarray(shot.get(name, ()), dtype=np.float64)
    return float(values[task]) if len(values) > task else np.nan


def _places(shot: Mapping[str, np.ndarray], classes: Sequence[int]) -> np.ndarray:
    place = {c: row for row, c in enumerate(np.asarray(shot["seen"]).tolist())}
    return np.array([place[c] for c in classes], dtype=np.int64)


def _state(shot: Snapshot, classes: Sequence[int], when: str) -> dict[str, float]:
    """NC1 to NC4 of some classes at one step, on training images."""
    rows = _places(shot, classes)
    means, spread = np.asarray(shot["means/now"], np.float64), np.asarray(shot["nc/within"], np.float64)
    around, count = centre(means), len(means)
    quotient = nc1_quotient(spread, np.ones(count, np.int64), around).per_class[rows]
    try:
        angles = nc2.cosines(means)[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)]
    except ValueError:  # one class, or equal means
        angles = np.zeros(0)
    weight = shot.get("head/weight")
    duality = np.full(count, np.nan)
    if weight is not None and weight.shape == means.shape and count > 1:
        duality = 1 - cosine(weight, around)
    agree = np.asarray(shot.get("nc/nc4", np.full(count, np.nan)), np.float64)
    return {
        f"nc1_{when}": _mean(quotient), f"nc2_{when}": _mean(np.abs(angles + 1 / max(count - 1, 1))),
        f"nc3_{when}": _mean(duality[rows]), f"nc4_{when}": _mean(agree[rows]),
    }  # fmt: skip


def _moves(then: Mapping[str, np.ndarray], last: Mapping[str, np.ndarray], classes: Sequence[int]) -> dict[str, float]:
    """How far class means went since a step; angles are seen from the centre of the classes known then."""
    known = np.asarray(then["seen"]).tolist()
    before = np.asarray(then["means/now"], np.float64)
    after = np.asarray(last["means/now"], np.float64)[_places(last, known)]
    rows, there = _places(then, classes), _places(last, classes)
    nothing = {"angle_drift": np.nan, "mean_drift": np.nan}
    if before.shape == after.shape:
        turned = np.degrees(np.arccos(cosine(centre(before), centre(after)).clip(-1, 1)))
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = np.linalg.norm(after - before, axis=1) / np.sqrt(np.asarray(then["nc/within"], np.float64))
        nothing = {"angle_drift": _mean(turned[rows]), "mean_drift": _mean(moved[rows])}
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.linalg.norm(np.asarray(last["means/stored"], np.float64) - last["means/now"], axis=1)
        gap = gap / np.sqrt(np.asarray(last["nc/within"], np.float64))
    return {name: round(value, _STILL) for name, value in {**nothing, "stale": _mean(gap[there])}.items()}


def _mean(values: np.ndarray) -> float:
    some = values[np.isfinite(values)]
    return float(some.mean()) if len(some) else np.nan
