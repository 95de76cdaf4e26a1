"""The commands that read finished runs: table, report, study, pages without a server, files for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from cillab.core.errors import unknown_name


def table(
    runs: Annotated[Path, typer.Argument(help="Folder that holds runs.")] = Path("runs"),
    format: Annotated[str, typer.Option(help="md, csv or json.")] = "md",
    by: Annotated[str, typer.Option(help="The number to rank by.")] = "a_last",
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Means over seeds with intervals, and paired differences.")
    ] = False,
) -> None:
    """Results of all runs in a folder, with the protocol that each number belongs to."""
    if format not in ("md", "csv", "json"):
        raise unknown_name("format", format, ("md", "csv", "json"))
    from cillab.runs.seeds import seeds_text  # noqa: PLC0415
    from cillab.runs.table import table as table_of  # noqa: PLC0415

    typer.echo(seeds_text(table_of(runs).rows, by) if seeds else table_of(runs, by).text(format))


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the run.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
) -> None:
    """One self-contained page with every figure of a run."""
    from cillab.report import write_report  # noqa: PLC0415

    size = write_report(directory, out)
    typer.echo(f"{out}  {size / 1e6:.1f} MB")


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the run.")],
    to: Annotated[str, typer.Option(help="tensorboard, wandb (offline), mlflow, or dataset (Hugging Face).")],
    out: Annotated[str, typer.Option(help="Folder to write; for mlflow also the address of a server.")],
) -> None:
    """A run for programs that people have already: trackers of experiments, data sets of features."""
    from cillab.export import export as export_run  # noqa: PLC0415

    typer.echo(export_run(directory, to, out))


def study(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, folders of runs, CSV of a study: one protocol.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/results/collapse-and-forgetting.md"),
    draws: Annotated[int, typer.Option(min=20, help="Bootstrap draws of every interval.")] = 2000,
) -> None:
    """Does collapse predict forgetting? Rank correlations over the methods, tasks and orders of many runs."""
    from cillab.study import write_study  # noqa: PLC0415

    for path in write_study(runs, out, draws):
        typer.echo(path)


def site(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run folders, or folders of runs.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("site"),
    course: Annotated[Path | None, typer.Option(help="Pages of the course, from make gallery.")] = None,
) -> None:
    """Pages without a server: the cockpit and the report of every run, and a list; they open from disk, offline."""
    from cillab.site import write_site  # noqa: PLC0415

    first = write_site(runs, out, course)
    size = sum(path.stat().st_size for path in out.glob("*.html"))
    typer.echo(f"{first}  {len(list(out.glob('*.html')))} pages, {size / 1e6:.1f} MB")


commands = (table, report, export, study, site)
