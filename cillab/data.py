"""`cillab data ...`: named data sets: which there are, where they lie, how they get there, whether they are whole."""

from typing import Annotated

import typer

from cillab.core.errors import DataError, printable
from cillab.protocol.named import find, homes, instructions, named_set, named_sets

data = typer.Typer(help="Named data sets: list, where, fetch, check.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="A name from `cillab data list`.")]


@data.command("list")
def list_sets() -> None:
    """Every named set, a line each; a star marks those on this machine."""
    for name, entry in named_sets().items():
        typer.echo(f"{'*' if find(entry, homes(entry)) else ' '} {name:<14} {entry.line}")


@data.command()
def where(name: Name) -> None:
    """Where a set lies, or which files go where; what is known of it."""
    entry = named_set(name)
    folders = homes(entry)
    place = find(entry, folders)
    typer.echo(f"{name}  {place.folder}  ({place.layout.says})" if place else f"{name}  not on this machine")
    if place is None:
        typer.echo(instructions(entry, folders))
    files = [(one.file_name, one.md5) for one in entry.archives] + [(one.file, one.md5) for one in entry.by_hand]
    facts = {
        "size": entry.size,
        "md5": ", ".join(f"{file} {md5 or 'none published'}" for file, md5 in files) or "none published",
        "training": "allowed" if entry.may_train else "not allowed: evaluation only",
        "licence": entry.licence,
        "homepage": entry.homepage,
        "note": entry.note,
    }
    for what, found in facts.items():
        if found:
            typer.echo(f"{what:<10} {found}")


@data.command()
def fetch(name: Name) -> None:
    """Download a set, or unpack the archive that was put into its folder; says what to do where neither can be done."""
    entry = named_set(name)
    place = find(entry, homes(entry))
    if place is None:
        from cillab.streams.fetching import fetch_set  # noqa: PLC0415 - loads torch

        typer.echo(f"{entry.title}, {entry.size}. Licence: {entry.licence}", err=True)
        place = fetch_set(entry, homes(entry)[0])
    typer.echo(f"{name}  {place.folder}  ({place.layout.says}). `cillab data check {name}` looks at all of it.")


@data.command()
def check(
    name: Annotated[str, typer.Argument(help="A name from `cillab data list`, or folder:DIR or parquet:DIR.")],
    decode: Annotated[bool, typer.Option(help="Open every image.")] = True,
) -> None:
    """Checksums, classes, images, division, broken files, twins, all in one pass; exit code 2 if something is wrong."""
    entry = None if ":" in name else named_set(name)
    from cillab.streams.checking import check_own, check_set  # noqa: PLC0415 - loads torch
    from cillab.streams.sources import Options  # noqa: PLC0415

    said = check_own(name, decode=decode) if entry is None else check_set(entry, Options(), decode=decode)
    for what, found in said.lines.items():
        typer.echo(printable(f"{what:<10} {found}"))
    if said.faults:
        raise DataError(f"{name}: {'; '.join(said.faults)}.")
