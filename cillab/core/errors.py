"""Errors that a person may cause: one clear line each, and exit code 2 on the command line."""

from collections.abc import Iterable
from difflib import get_close_matches


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
    """The message of `error` with every run of white space turned into one blank."""
    return " ".join(str(error).split())


def nearest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that is most like `given`, or None when nothing is close."""
    matches = get_close_matches(given.lower(), list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(kind: str, given: str, valid: Iterable[str]) -> UnknownNameError:
    """`Unknown learner 'nearestmean'. Valid: acil, nearest-mean, ranpac. Did you mean 'nearest-mean'?`."""
    names = sorted(valid)
    hint = nearest(given, names)
    message = f"Unknown {kind} {given!r}. Valid: {', '.join(names) or '(none)'}."
    return UnknownNameError(message + (f" Did you mean {hint!r}?" if hint else ""))
