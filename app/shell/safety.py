"""What a visitor may do, and which files may be touched. What writes, or reads outside a run, asks here first."""

import os
from pathlib import Path

import streamlit as st
from streamlit import config

from app.shell import html
from app.shell.public import read_only
from cillab.core.errors import CillabError, InvalidRequestError
from cillab.core.places import data_dir
from cillab.lab.spec import RunSpec

UPLOAD_BYTES = 200 * 2**20  # the largest file that the server takes at all
_PLACES = ("folder", "parquet")  # kinds of data that name a place on this machine


class ReadOnlyError(CillabError):
    """This server only shows."""


def limit_uploads() -> None:
    """Let the server itself refuse what is too large, while it comes in, whatever a browser allows; all, if read-only.

    A widget's own limit is only asked in the browser. This is what Streamlit's upload route asks, for every request.
    """
    config.set_option("server.maxUploadSize", 0 if read_only() else UPLOAD_BYTES // 2**20)


def must_be_writable() -> None:
    """Second line of defence, inside the functions that write.

    Raises:
        ReadOnlyError: the server is read-only.
    """
    if read_only():
        raise ReadOnlyError("This server is read-only (CILLAB_READONLY=1).")


def show_read_only(what: str) -> None:
    """What a page says in read-only mode instead of its controls."""
    html.empty(
        "This server only shows",
        f"{what} is switched off here (CILLAB_READONLY=1). On your own machine, `cillab app` has it.",
    )


def data_root() -> Path | None:
    """The one folder below which data sets may be registered: `CILLAB_DATA`, or none."""
    given = data_dir()
    return given.resolve() if given else None


def inside(root: Path, name: str) -> Path:
    """The existing folder `name` below `root`, links followed.

    Raises:
        InvalidRequestError: it leads out of `root`, or is no folder.
    """
    base = root.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base) or not path.is_dir():
        raise InvalidRequestError(f"{name!r} is no folder below {root}.")
    return path


def must_be_declared(data: str, weights: str | None = None, order: str = "") -> None:
    """Refuse a request, typed by a visitor or found in a run folder, that names files outside the declared root.

    Every path that a request can hold comes through here: data, weights, and an order of classes that is a file.

    Raises:
        InvalidRequestError: with what would be allowed.
    """
    root = data_root()
    places = list[str]()
    for one in data.split(" + "):
        kind, colon, where = one.removeprefix("held-out:").partition(":")
        places += [where] if colon and (kind in _PLACES or _is_local(where)) else []
    places += [order] if _is_local(order) else []
    places += [weights] if weights else []
    for place in places:
        path = Path(place).expanduser().resolve()
        if root is None:
            raise InvalidRequestError(
                f"{place!r} lies outside this app's data folder: none is set. Start the app with CILLAB_DATA=FOLDER "
                "in the environment, a folder that holds it."
            )
        if not path.is_relative_to(root):
            raise InvalidRequestError(f"{place!r} lies outside this app's data folder {root} (CILLAB_DATA).")


def spec_must_be_declared(spec: RunSpec) -> None:
    """`must_be_declared` for everything that a request names, and for every link below the data that it names.

    Raises:
        InvalidRequestError: with what would be allowed.
    """
    must_be_declared(spec.stream.data, spec.backbone.weights, spec.stream.order)
    root = data_root()
    for one in spec.stream.data.split(" + "):
        kind, _, where = one.removeprefix("held-out:").partition(":")
        if root is not None and (kind in _PLACES or (kind == "hf" and _is_local(where))):
            must_stay_inside(root, Path(where).expanduser())


def must_stay_inside(root: Path, folder: Path) -> None:
    """Refuse a folder with a link, at any depth, that leads out of `root`: the library follows links.

    Raises:
        InvalidRequestError: with the first such link.
    """
    from cillab.streams.layout import legible  # noqa: PLC0415 - torch comes with its package: not for every page

    base, waiting = root.resolve(), [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(base):
                        name = legible(str(Path(entry.path).relative_to(folder)))
                        raise InvalidRequestError(
                            f"{name!r} in {legible(folder.name)!r} is a link out of this app's data folder "
                            "(CILLAB_DATA). Copy what it leads to, or declare a folder that holds both."
                        )
                    if entry.is_dir(follow_symlinks=False):  # what a link leads to lies below the root, and is its own
                        waiting.append(entry.path)
        except (OSError, RuntimeError):  # not to be listed, or a loop: the library says so
            continue


def _is_local(name: str) -> bool:
    """Does a name of the hub, or an order of classes, lead to a file here? Whoever asks for one means a file."""
    if name.startswith(("/", "~", ".")) or ".." in name or "\\" in name:
        return True
    try:
        return Path(name).exists() if name else False
    except (OSError, ValueError):  # a long list of ids is no name of a file
        return False


def must_be_local() -> None:
    """Show nothing on a server that listens on every address because nobody told it where to listen.

    The address stands in `.streamlit/config.toml`, which Streamlit reads in the folder where it is started: from any
    other folder it would listen on all interfaces. `cillab app` and `make app` say the address themselves.
    """
    if config.get_option("server.address") is not None:
        return
    html.empty(
        "This server would answer the whole network",
        "It was started without an address. Stop it and use `cillab app`, or say where it may listen: "
        "`streamlit run app/main.py --server.address=localhost` (`0.0.0.0`, if everybody is meant).",
    )
    st.stop()
