"""Errors that a person may cause: one clear line each, and exit code 2 on the command line."""

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogate, line and paragraph separators


class CillabError(Exception):
    """Base of every error that says what was given, what is valid and, where it can, the nearest valid thing."""


class UnknownNameError(CillabError):
    """A name that nothing is registered under."""


class InvalidRequestError(CillabError):
    """A request that cannot be carried out as given: a hyper-parameter out of bounds, a split larger than the data."""


class IncompatibleError(CillabError):
    """A learner on a backbone or stream that lacks what it needs. Raised before anything is loaded."""


class NotObservedError(CillabError):
    """A question to a learner that has not seen a class yet."""


class DataError(CillabError):
    """Images or labels that cannot be used: unreadable, empty, not finite."""


class WeightsError(CillabError):
    """Weights that cannot be found or do not fit the model."""


class HubError(CillabError):
    """A download that did not succeed; the message says where a local file can be put instead."""


class RunError(CillabError):
    """A run folder that exists already, is damaged, or was written by a newer version."""


class CancelledError(CillabError):
    """The run was asked to stop. What was finished before is on disk."""

    signal = 2  # number of the signal that asked, for the shell's exit code; SIGINT unless told otherwise


def one_line(error: BaseException) -> str:
    """The message of `error` with every run of white space turned into one blank, and fit for a terminal."""
    return printable(" ".join(str(error).split()))


def printable(text: str) -> str:
    """`text` without what a terminal would obey: control characters, and marks that turn the direction of writing."""
    return "".join(c if unicodedata.category(c) not in _OBEYED else "\ufffd" for c in text)


def shown(value: object, longest: int = 80) -> str:
    """`repr(value)` as a message may hold it: one line, not longer than `longest` characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * longest:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = printable(repr(value[: 4 * longest] if isinstance(value, str | bytes | list | tuple) else value))
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__}"
    return cut(text, longest)


def cut(text: str, longest: int) -> str:
    """`text`, or its beginning where it is longer than `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}\u2026"


def nearest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most like `given`, or None when nothing is close."""
    matches = get_close_matches(given.lower(), list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def listed(names: Sequence[str], longest: int = 200) -> str:
    """`a, b, c`, or as many as `longest` characters hold and how many more there are."""
    held = 0
    while held < len(names) and len(", ".join(names[: held + 1])) <= longest:
        held += 1
    more = len(names) - held
    return (", ".join(names[:held]) + (f" and {more} more" if held and more else "")) or "(none)"


def unknown_name(kind: str, given: str, valid: Iterable[str]) -> UnknownNameError:
    """`Unknown learner 'nearestmean'. Valid: acil, nearest-mean, ranpac. Did you mean 'nearest-mean'?`."""
    names = sorted(valid)
    hint = nearest(given, names)
    message = f"Unknown {kind} {shown(given)}. Valid: {listed(names)}."
    return UnknownNameError(message + (f" Did you mean {hint!r}?" if hint else ""))
