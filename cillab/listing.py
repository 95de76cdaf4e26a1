"""`cillab list ...`: what there is, one line each."""

import json
from typing import Any

import typer

from cillab.lab import offer

lists = typer.Typer(help="What there is, one line each.", no_args_is_help=True, rich_markup_mode=None)
alone = typer.Typer(name="cillab", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
alone.add_typer(lists, name="list")


@alone.callback()
def _root() -> None:
    """The command line with nothing but its lists: they are answered without loading the rest."""


@lists.command("learners")
def list_learners() -> None:
    """Methods by family, with paper and what they need."""
    found, family = offer.offered(), ""
    for name, can in found["learners"].items():
        if can["family"] != family:
            family = can["family"]
            typer.echo(f"# {family}")
        needs = f"  needs {', '.join(can['needs'])}" if can["needs"] else ""
        images = "  stores training images" if can["exemplars"] else ""
        typer.echo(f"{name:<14} {can['summary']}  [{can['evidence']}: {can['paper']}]{needs}{images}")
    for point, reason in found["unusable"].items():
        typer.echo(f"not usable: {point}  {reason}", err=True)


@lists.command("data")
def list_data() -> None:
    """Data sets and where they come from."""
    for name, line in offer.offered()["data"].items():
        typer.echo(f"{name:<14} {line}")


@lists.command("scenarios")
def list_scenarios() -> None:
    """How images are dealt out as tasks, with the parameters that --set-scenario takes."""
    from cillab.protocol import scenarios  # noqa: PLC0415

    for name in scenarios:
        typer.echo(f"{name:<18} {_first_line(scenarios[name])}")
        for field, info in scenarios[name].model_fields.items():
            typer.echo(f"{'':<20} {field} = {info.default}: {' '.join((info.description or '').split())}")


@lists.command("backbones")
def list_backbones() -> None:
    """Frozen models and how to name them."""
    for name, line in offer.offered()["backbones"].items():
        typer.echo(f"{name:<24} {line}")


@lists.command("schema")
def list_schema() -> None:
    """Everything that can be asked for, as JSON: what a form is drawn from."""
    typer.echo(json.dumps(offer.offered()))


@lists.command("presets")
def list_presets() -> None:
    """Experiments that ship with the package: `cillab sweep preset:NAME`."""
    from cillab.lab.sweep import presets  # noqa: PLC0415

    for name, title in presets().items():
        typer.echo(f"{name:<24} {title}")


@lists.command("transforms")
def list_transforms() -> None:
    """Evaluation transforms."""
    for name, line in (
        ("tag", "shortest side to the weights' size / crop fraction, centre crop, the weights' mean and std"),
        ("whole", "the whole image squeezed to the input size, no crop, the weights' mean and std"),
        ("pilot_compat", "resize to 256/224 of the input size, centre crop, values in [0, 1] (as PILOT does)"),
    ):
        typer.echo(f"{name:<14} {line}")


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().split("\n")[0]
