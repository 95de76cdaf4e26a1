"""The command line: thin. Every command turns words into one call of the library and its answer into lines."""

import json
import signal
from collections.abc import Callable
from contextlib import closing, contextmanager
from inspect import Parameter, Signature, signature
from pathlib import Path
from shutil import copytree
from typing import Annotated, Any, NoReturn, get_args

import typer
from rich.console import Console

import cillab
from cillab import finished
from cillab.answering import answer
from cillab.core import launched
from cillab.core.errors import (
    CancelledError,
    CillabError,
    InvalidRequestError,
    printable,
    shown,
    unknown_name,
)
from cillab.core.imports import uncollected
from cillab.core.leaving import leaving_at_once
from cillab.data import data
from cillab.lab import offer
from cillab.lab.early import refuse_early
from cillab.lab.spec import RunSpec, parse_setting
from cillab.listing import lists
from cillab.runs import Run, RunWriter
from cillab.runs.claim import claim
from cillab.runs.probe import has_probe
from cillab.runs.schema import plain
from cillab.runs.writer import must_be_free

app = typer.Typer(
    name="cillab",
    help="Class-incremental learning with pre-trained models, seen through neural collapse.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(lists, name="list")
app.add_typer(data, name="data")


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` an option for every setting of RunSpec in place of its `**given`: a setting declares itself there.

    An option is named and explained like its setting; without it, the setting is None.
    """
    own = [p for p in signature(command).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    made = []
    for name, info in RunSpec.settings().items():
        if name == "params":
            continue
        kind = _plain_type(info.annotation)
        default = info.get_default(call_default_factory=True)
        shown = f" [default: {getattr(default, 'text', default)}]" if default not in (None, False) else ""
        flag = name.replace("_", "-")
        names = (f"--{flag}/--no-{flag}",) if kind is bool else (f"--{flag}",)
        option = typer.Option(*names, help=(info.description or "") + shown, show_default=False)
        made.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]))
    for name, kind in (("shots", int), ("imbalance", float)):  # how scenarios were spelt before they had parameters
        hidden = Annotated[kind | None, typer.Option(f"--{name}", hidden=True)]
        made.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=hidden))
    command.__signature__ = Signature([*own, *made])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *made)}
    return command


def _plain_type(annotation: Any) -> type:
    """bool, int or float behind `| None` and bounds; text for everything else."""
    while rest := [kind for kind in get_args(annotation) if kind is not type(None)]:
        annotation = rest[0]
    return annotation if annotation in (bool, int, float) else str


@app.command()
@_options
def run(
    spec: Annotated[Path | None, typer.Argument(help="YAML file with the same names; options override it.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=RunSpec.model_fields["params"].description)
    ] = None,
    dealt: Annotated[
        list[str] | None,
        typer.Option("--set-scenario", metavar="KEY=VALUE", help="Parameters of the scenario: --set-scenario way=5."),
    ] = None,
    log: Annotated[Path | None, typer.Option(hidden=True)] = None,
    **given: Any,
) -> None:
    """Learn a stream of tasks and write a run folder."""
    given = {name: value for name, value in given.items() if value is not None}
    base = RunSpec.read(spec).flat() if spec is not None else {}
    params = {**base.get("params", {}), **dict(parse_setting(text) for text in settings or [])}
    if "learner" in given and given["learner"] != base.get("learner", given["learner"]):
        params = dict(parse_setting(text) for text in settings or [])  # of another learner, so not those of the file
    request = RunSpec.of({**_dealt(base, given, dealt or []), "params": params})
    refuse_early(request)
    if not launched.is_first():
        request = request.with_(out=str(launched.aside()), keep_checkpoints="last")
    must_be_free(request.folder())
    ours = None
    try:
        with leaving_at_once(lambda: ours is not None and ours.withdraw()), uncollected():
            ours = claim(request.folder())  # before torch is loaded: a second writer hears it at once
            from cillab.core import processes  # noqa: PLC0415 - torch takes seconds: not for --help or a typing mistake
            from cillab.lab.engine import Lab  # noqa: PLC0415

            processes.begin()
            if offer.kept() is None:
                offer.keep()  # so that the next refusal needs no torch
                refuse_early(request)
        with _interruptible():
            with uncollected():
                lab = Lab.from_spec(request)
            _follow(lab, log)
    finally:
        if ours is not None:
            ours.withdraw()  # of a request that was refused; a run that began has taken it over


def _dealt(base: dict[str, Any], given: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """What a file says with what the options say over it; another scenario takes nothing of the file's with it."""
    now = base.get("scenario", {"name": "class-incremental"})
    name, changed = given.get("scenario", now["name"]), dict(parse_setting(text) for text in settings)
    if name != now["name"]:
        base = {key: value for key, value in base.items() if key not in ("split", "order")}
        now = {}
    if not changed and len(now) < 2:
        return {**base, **given, "scenario": name}  # as it stands, so that former spellings are understood
    old = {key: given.pop(key) for key in ("shots", "imbalance") if key in given}
    return {**base, **given, "scenario": {**now, "name": name, **old, **changed}}


@app.command()
def resume(directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the run.")]) -> None:
    """Go on with a run after its last finished task."""
    run = Run(directory)  # refuses what is no run before torch is loaded
    if run.status.state == "finished" and run.result is not None and has_probe(directory):
        typer.echo(f"{directory} is finished: nothing is left to do.")
        return
    held = None
    with leaving_at_once(lambda: held is not None and held.release()), uncollected():
        held = RunWriter.resume(directory) if launched.is_first() else None  # refuses what is being written
        from cillab.core import processes  # noqa: PLC0415
        from cillab.lab.engine import Lab  # noqa: PLC0415

        processes.begin()
        if held is None:
            directory = Path(copytree(directory, launched.aside()))
        processes.wait()  # the first one changes the folder from here on
    with _interruptible():
        with uncollected():
            lab = Lab.resume(directory)
        _follow(lab, None)


@app.command()
def estimate(
    spec: Annotated[Path, typer.Argument(help="YAML file of a run, as for `cillab run`.")],
    format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Minutes that a run would take, from a few batches. Writes nothing; refuses what the run would refuse."""
    if format not in ("text", "json"):
        raise unknown_name("format", format, ("text", "json"))
    request = RunSpec.read(spec)
    refuse_early(request)
    from cillab.lab.estimate import estimate as estimate_of  # noqa: PLC0415
    from cillab.screen import estimate_line  # noqa: PLC0415

    found = estimate_of(request)
    for note in found.notes[:1] if format == "text" else ():  # the others were warnings
        typer.echo(printable(note))
    typer.echo(json.dumps(plain(found.as_json())) if format == "json" else estimate_line(found))


@app.command()
def sweep(
    spec: Annotated[str, typer.Argument(help="YAML with `grid` or `rows`, or preset:NAME (`cillab list presets`).")],
    engine: Annotated[str, typer.Option(help="local: processes on this machine. ray: any Ray cluster.")] = "local",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side [default: 1; on Ray what the cluster has room for].")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each run [default: the cores, divided; on Ray 1].")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster [default: RAY_ADDRESS, or a cluster of this machine alone].")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Write means and intervals over seeds to FILE.md, and every run to FILE.csv.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="CSV of another sweep: its rows stand in the table too, where protocols agree.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Make only the runs that FILE.csv of --table lacks, with their settings.")
    ] = False,
) -> None:
    """Make a grid of runs; finished ones are skipped, interrupted ones go on."""
    from cillab.lab.sweep import read_plan, sweep as sweep_runs  # noqa: PLC0415
    from cillab.lab.sweep_page import check_page, not_in_page, write_sweep_page  # noqa: PLC0415

    plan, failed = read_plan(spec), 0
    if (beside is not None or missing) and table is None:
        option = "--missing reads the CSV beside" if missing else "--beside lays rows into the page of"
        raise InvalidRequestError(f"{option} --table: name that too.")
    check_page(plan, table, beside)
    asked = not_in_page(plan, table) if missing and table is not None else plan.specs
    if table is not None and len(asked) < len(plan.specs):
        typer.echo(f"{len(plan.specs) - len(asked)} of {len(plan.specs)} runs stand in {table.with_suffix('.csv')}.")
        write_sweep_page(plan, table, beside)
    runs = sweep_runs(asked, engine, jobs, threads, address)
    with _interruptible("the same command goes on"), closing(runs) as outcomes:
        for outcome in outcomes:
            failed += outcome.state != "finished"
            _console().print(
                f"{outcome.state:<10} {outcome.path}  {outcome.note}", highlight=False, soft_wrap=True, markup=False
            )
            if table is not None and outcome.state == "finished":
                write_sweep_page(plan, table, beside)
    if failed:
        raise CillabError(f"{failed} run(s) did not finish; the same command tries them again.")


@app.command()
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="An entry such as simplecil/cifar100-inc5; none = list them.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Class orders, such as 1993,1994,1995; the published one if empty.")] = "",
    data: Annotated[str | None, typer.Option(help="Take these data instead.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Take this backbone instead.")] = None,
    weights: Annotated[str | None, typer.Option(help="Local safetensors file of the backbone.")] = None,
    transform: Annotated[str | None, typer.Option(help="Take this evaluation transform instead.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Take this input size instead.")] = None,
    train_per_class: Annotated[int | None, typer.Option(help="Take the first N training images of each class.")] = None,
    test_per_class: Annotated[int | None, typer.Option(help="Take the first N test images of each class.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/reproduce"),
    page: Annotated[Path | None, typer.Option(help="Write the whole ledger with what was run to this file.")] = None,
) -> None:
    """Run a published protocol and say how near its numbers one comes; without a name, list what is published."""
    given = {
        "data": data, "backbone": backbone, "weights": weights, "transform": transform, "image_size": image_size,
        "train_per_class": train_per_class, "test_per_class": test_per_class, "precision": precision, "device": device,
    }  # fmt: skip
    from cillab.lab import reproduce as lab  # noqa: PLC0415
    from cillab.protocol.ledger import ledger  # noqa: PLC0415
    from cillab.runs.files import write_page  # noqa: PLC0415
    from cillab.screen import step_line  # noqa: PLC0415

    if page is not None:
        write_page(page, lab.page(out))
        typer.echo(f"{page}")
    elif name is None:
        for entry in ledger().values():
            numbers = "/".join("-" if value is None else f"{value:.2f}" for value in (entry.a_avg, entry.a_last))
            typer.echo(
                f"{entry.name:<36} A_avg/A_last {numbers:<12} {lab.found_of(entry, out).verdict:<14} {entry.source}"
            )
    else:
        try:
            orders = [int(seed) for seed in seeds.split(",") if seed.strip()]
        except ValueError:
            raise InvalidRequestError(
                f"--seeds {shown(seeds)}: write numbers with commas, as in 1993,1994,1995."
            ) from None
        instead = {key: value for key, value in given.items() if value is not None}
        with _interruptible():
            for event in lab.reproduce(name, orders, out, instead):
                if isinstance(event, lab.Reproduction):
                    typer.echo(lab.compared(event))
                else:
                    typer.echo(step_line(event, 0).replace("/0", ""))


for command in finished.commands:
    app.command()(command)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="What to begin: learner.")],
    name: Annotated[str, typer.Argument(help="Its name, such as nearest-mean.")],
    out: Annotated[Path | None, typer.Option(help="Folder to make; by default NAME here.")] = None,
) -> None:
    """Begin a learner of your own: a package with a working method, its entry point and its test."""
    from cillab.authoring import new as begin  # noqa: PLC0415

    folder = begin(kind, name, out)
    typer.echo(f"{folder}: a working learner, its test, its entry point. Next:")
    for line in (
        f"python -m pip install --no-deps --no-build-isolation --editable {folder}",
        f"python -m pytest {folder}",
        f"cillab run --learner {name} --data shields --split B0-Inc10",
    ):
        typer.echo(f"  {line}")


@app.command(hidden=True)
def work(root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of runs.")]) -> None:
    """Work through the queue of a folder of runs, one run at a time."""
    from cillab.lab.queue import work as work_through  # noqa: PLC0415

    work_through(root)


@app.command()
def doctor() -> None:
    """Versions, devices, places that can be written, data that can be reached: one line each."""
    from cillab.doctor import examine  # noqa: PLC0415

    for line in examine():
        typer.echo(line)


@app.command(name="app")
def app_(
    port: Annotated[int, typer.Option(help="Where to listen.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """The Streamlit app, on this machine only."""
    from cillab.doctor import serve_app  # noqa: PLC0415

    raise typer.Exit(serve_app(port, browser))


def main() -> NoReturn:
    """Entry point: every refusal is one line on stderr and exit code 2."""
    answer(app)


def _follow(lab: Any, log: Path | None) -> None:
    """Show a lab until its end; a log that was begun beside the folder moves inside with the first event."""
    from cillab.screen import follow, result_lines  # noqa: PLC0415

    if log is not None:
        lab.begin()
        log.replace(lab.path / log.name.removeprefix(f".{lab.path.name}."))
    for note in lab.stream.source.notes[:1]:  # the others were warnings
        _console().print(printable(note), highlight=False, soft_wrap=True, markup=False)
    follow(lab, _console())
    for line in result_lines(lab):
        _console().print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def _interruptible(how: str = "`cillab resume DIR` goes on"):
    """SIGTERM as Ctrl-C, so that a job that is told to stop says so in its folder; the exit code tells them apart."""
    asked = signal.SIGINT

    def stop(number: int, frame: object) -> NoReturn:
        nonlocal asked
        asked = signal.Signals(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        error = CancelledError(f"Interrupted. Everything finished is on disk; {how}.")
        error.signal = int(asked)
        raise error from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _console() -> Console:
    return Console(soft_wrap=False, quiet=not launched.is_first())


def _version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(cillab.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = None,
) -> None:
    """Class-incremental learning with pre-trained models, seen through neural collapse."""
