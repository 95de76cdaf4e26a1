"""How a source is found by its name."""

from pathlib import Path

from cillab.core.errors import InvalidRequestError, shown, unknown_name
from cillab.core.places import cache_dir
from cillab.core.registry import sources
from cillab.streams.sources import Options, Source, Split
from cillab.streams.union import Union


def open_source(
    name: str,
    *,
    seed: int = 0,
    image_size: int = 64,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    cache: Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """The source called `name`: `shields`, `digits`, a named set (`cub200`), `folder:DIR`, `parquet:DIR` or `hf:NAME`.

    Several with ` + ` between them are one (`shields + digits`). `train_per_class` and `test_per_class` tell a rendered
    world how many images are wanted; other sources have what they have, and it is the Stream that takes the first ones.
    `image_column` and `label_column` are for tables (`parquet:DIR`, `hf:NAME`) whose columns do not speak for
    themselves.

    Raises:
        UnknownNameError: no such kind, with the nearest one.
        InvalidRequestError: a kind that needs a place and got none, or the other way round; a column of what is no
            table.
        DataError, HubError: the place holds no usable data, or cannot be reached.
    """
    if " + " in name:
        names, more = name.split(" + "), {"train_per_class": train_per_class, "test_per_class": test_per_class}
        if not any(map(is_table, names)):
            refuse_columns(name, image_column, label_column)
        return Union([
            open_source(
                one, seed=seed, image_size=image_size, cache=cache, **more,
                image_column=image_column if is_table(one) else None,
                label_column=label_column if is_table(one) else None,
            )
            for one in names
        ])  # fmt: skip
    kind, colon, where = name.partition(":")
    registered = {entry.partition(":")[0]: entry for entry in sources}
    if kind not in registered:
        raise unknown_name("data set", name, sources)
    wants = registered[kind].partition(":")[2]
    if bool(wants) != bool(where) or (colon and not where):
        raise InvalidRequestError(f"data = {name!r}: write {registered[kind]!r}.")
    per_class: dict[Split, int | None] = {"train": train_per_class, "test": test_per_class}
    if not is_table(name):
        refuse_columns(name, image_column, label_column)
    options = Options(seed, image_size, per_class, cache or cache_dir(), image_column, label_column)
    return sources[registered[kind]](where, options)


def is_table(name: str) -> bool:
    """Whether the data set called `name` has columns."""
    return name.removeprefix("held-out:").partition(":")[0] in ("parquet", "hf")


def refuse_columns(name: str, image_column: str | None, label_column: str | None) -> None:
    """Refuse names of columns for what is no table.

    Raises:
        InvalidRequestError: with the one that was given.
    """
    for option, given in (("image_column", image_column), ("label_column", label_column)):
        if given is not None:
            raise InvalidRequestError(f"{option} = {shown(given)}: {name} is no table; parquet:DIR and hf:NAME are.")
