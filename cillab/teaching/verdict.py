"""What a check answers. It never raises on the reader's account, so a notebook runs through with exercises undone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Verdict:
    """Right or not yet, and one sentence that helps."""

    ok: bool
    message: str

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"{'Right' if self.ok else 'Not yet'}: {self.message}"

    def _repr_markdown_(self) -> str:
        return f"{'✅ **Right.**' if self.ok else '✏️ **Not yet.**'} {self.message}"


@dataclass(frozen=True)
class Case:
    """One question with a known answer, and what typical wrong answers mean."""

    arguments: tuple[Any, ...]
    answer: Any
    what: str
    hints: tuple[tuple[Any, str], ...] = ()  # (wrong answer, what it means)


def judge(attempt: Callable[..., Any], cases: Iterable[Case], praise: str) -> Verdict:
    """Ask `attempt` every case; the first wrong answer decides what is said."""
    for case in cases:
        try:
            given = attempt(*case.arguments)
        except NotImplementedError:
            return Verdict(False, "write the function, then run this cell again.")
        except Exception as error:
            return Verdict(False, f"for {case.what} it raised {type(error).__name__}: {error}")
        if not _same(given, case.answer):
            hint = next((hint for wrong, hint in case.hints if _same(given, wrong)), "")
            return Verdict(
                False, f"for {case.what} the answer is {_plain(case.answer)}, not {_plain(given)}. {hint}".rstrip()
            )
    return Verdict(True, praise)


def _same(given: Any, wanted: Any) -> bool:
    try:
        a, b = np.asarray(given, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True))


def _plain(value: Any) -> str:
    """Numbers without their NumPy types, four digits."""
    try:
        return str(np.round(np.asarray(value, dtype=np.float64), 4).tolist())
    except (TypeError, ValueError):
        return repr(value)
