"""A site without a server: for every run the cockpit and the report as pages that open from disk or any web host.

Every page holds all that it needs; nothing is loaded from elsewhere. `index.html` lists the runs by protocol, because
only runs of one protocol may be ranked against each other.
"""

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from cillab import cockpit
from cillab.core.errors import CillabError, InvalidRequestError, one_line
from cillab.figures.palette import HUES, task_colour
from cillab.figures.picture import SCREEN
from cillab.plane import lay
from cillab.player import CSS, name, pack, source
from cillab.report import write_report
from cillab.runs import Run, find_runs
from cillab.runs.index import comparable_key, stated_as
from cillab.runs.run import no_folder

_SAID = ("data", "split", "order", "seed", "backbone", "transform")  # of the protocol, on the first page
_STYLE = Path(__file__).with_name("site.css")


def write_site(runs: Sequence[str | Path], out: str | Path, course: str | Path | None = None) -> Path:
    """Write the pages of `runs` (run folders, or folders of runs) below `out`; returns the first page.

    `course` is the folder with the pages of the course, which `make gallery` writes; it becomes `course` in the site.

    Raises:
        InvalidRequestError: no run can be read, two would have one page, or `course` has no first page.
    """
    folder = Path(out)
    if course is not None and not (Path(course) / "index.html").is_file():
        raise InvalidRequestError(f"{course} has no index.html: `make gallery` writes the course to build/gallery.")
    if missing := [Path(root) for root in runs if not Path(root).is_dir()]:
        raise InvalidRequestError(" ".join(map(no_folder, missing)))
    given = [path for root in runs for path in ([Path(root)] if _is_run(root) else sorted(find_runs(Path(root))))]
    paths = list({path.resolve(): path for path in given}.values())
    found, problems = [], []
    for path in paths:
        try:
            run = Run(path)
            if run.steps:
                found.append(run)
            else:
                problems.append(f"{path}: no finished task yet")
        except (CillabError, OSError, ValueError) as error:
            problems.append(f"{path}: {one_line(error)}")
    if not found:
        raise InvalidRequestError(
            f"No run with a finished task in {', '.join(map(str, runs))}. {' '.join(problems)}".strip()
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = _files([run.path for run in found])
    for run in found:
        write_report(run.path, folder / f"{files[run.path]}-report.html")
        (folder / f"{files[run.path]}.html").write_text(_cockpit(run, files[run.path]), encoding="utf-8")
    first = folder / "index.html"
    if course is not None:
        shutil.copytree(course, folder / "course", dirs_exist_ok=True)
    first.write_text(_index(found, problems, files, with_course=course is not None), encoding="utf-8")
    return first


def _is_run(path: str | Path) -> bool:
    return (Path(path) / "run.json").is_file()


def _files(paths: Sequence[Path]) -> dict[Path, str]:
    """Names of pages: of every folder the shortest end of its path that tells all apart, as it may stand in an address.

    Runs of a sweep are all called `seed=1993`, in the folder of their row.
    """
    ends, names = [path.resolve().parts for path in paths], list[str]()
    for length in range(1, 1 + max(map(len, ends))):
        names = ["".join(c if c.isalnum() or c in "-_." else "-" for c in "-".join(end[-length:])) for end in ends]
        if len(set(names)) == len(names):
            return dict(zip(paths, names, strict=True))
    twice = next(one for one in names if names.count(one) > 1)
    raise InvalidRequestError(f"Two runs would have one page, {twice}.html: rename a folder.")


def _said(run: Run) -> str:
    facts = ((n, stated_as(getattr(run.protocol, n, None))) for n in _SAID)
    return " · ".join(f"{n} {value}" for n, value in facts if value not in (None, ""))


def _cockpit(run: Run, file: str) -> str:
    """The player with its panels, the data in the page; where the features have no plane, a line that says so."""
    named = name(run)
    title = f"{run.protocol.learner or 'run'} on {run.protocol.data}"
    head = f"<header><h1>{escape(title)}</h1><span>{escape(_said(run))}</span><a href='index.html'>All runs</a>"
    head += f"<a href='{file}-report.html'>Every figure</a></header>"
    try:
        plane = lay(run, named.snapshots)
    except CillabError as error:
        return _page(title, f"{head}<p>No fixed map fits all steps: {escape(one_line(error))}</p>")
    hues = {mode: [task_colour(at, mode) for at in range(HUES)] for mode in ("light", "dark")}
    facts, blob = pack([named], [plane], run.path.name, hues, cockpit.panels)
    data = {**facts, "step": len(named.snapshots) - 1, "blob": base64.b64encode(blob).decode()}
    text = json.dumps(data).replace("<", "\\u003c")  # class names are anybody's text: none may end the script
    body = f"""{head}<div class="cillab-player"></div>
<script type="application/json" id="data">{text}</script>
<script type="module">
{source("player")}
const data = JSON.parse(document.getElementById("data").textContent);
const told = (what) => {{ if (what === "page") location.href = "{file}-report.html"; }};
mount(document.querySelector(".cillab-player"), data, told);
</script>"""
    return _page(title, body, CSS.read_text(encoding="utf-8"))


def _index(
    runs: Sequence[Run], problems: Sequence[str], files: Mapping[Path, str], *, with_course: bool = False
) -> str:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(comparable_key(run.protocol), []).append(run)
    parts = ["<h1>Runs</h1><p>Numbers are comparable inside a table, whose runs have one protocol.</p>"]
    if with_course:
        parts.append(
            "<p><a href='course/index.html'>The course</a>: chapters with figures, formulas and exercises.</p>"
        )
    for mine in groups.values():
        rows = "".join(
            _row(run, files[run.path])
            for run in sorted(mine, key=lambda run: -(run.result.a_last if run.result else 0))
        )
        head = "<tr><th>Method</th><th>Last accuracy</th><th>Average</th><th>Tasks</th><th></th></tr>"
        parts.append(f"<h2>{escape(_said(mine[0]))}</h2><table>{head}{rows}</table>")
    if problems:
        parts.append("<h2>Not shown</h2>" + "".join(f"<p>{escape(problem)}</p>" for problem in problems))
    return _page("Runs", f'<main class="list">{"".join(parts)}</main>')


def _row(run: Run, file: str) -> str:
    result = run.result
    last, average = (_percent(value) for value in ((result.a_last, result.a_avg) if result else (None, None)))
    tasks = f"{len(run.task_steps)} of {len(run.info.tasks)}"
    return (
        f"<tr><td><a href='{file}.html'>{escape(run.protocol.learner or run.path.name)}</a></td><td>{last}</td>"
        f"<td>{average}</td><td>{tasks}</td><td><a href='{file}-report.html'>every figure</a></td></tr>"
    )


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f} %"


def _page(title: str, body: str, css: str = "") -> str:
    style = f"{_STYLE.read_text(encoding='utf-8')}{css}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"{SCREEN}<style>{style}</style></head>"
        f"<body>{body}</body></html>"
    )
