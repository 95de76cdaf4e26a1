"""Ctrl-C and SIGTERM while a program loads: nothing needs saving yet, and half imported libraries raise anything."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def leaving_at_once(before: Callable[[], object] | None = None) -> Iterator[None]:
    """While this block runs, both signals end the process with one line and the shell's code: 130 and 143.

    `before` is called first, for what must not be left behind.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        if before is not None:
            before()
        sys.stderr.write("cillab: Interrupted.\n")
        sys.stderr.flush()
        os._exit(128 + number)

    handled = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
