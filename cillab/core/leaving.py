"""How a process ends: at once while it loads, and without a last collection of garbage when it is done."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def leaving_at_once(before: Callable[[], object] | None = None) -> Iterator[None]:
    """While this block runs, Ctrl-C and SIGTERM end the process with one line and the shell's code: 130 and 143.

    A program that loads has nothing to save yet, and half imported libraries raise anything.
    `before` is called first, for what must not be left behind.
    """

    def interrupted(number: int, frame: FrameType | None) -> NoReturn:
        if before is not None:
            before()
        sys.stderr.write("cillab: Interrupted.\n")
        sys.stderr.flush()
        os._exit(128 + number)

    handled = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """End the process as `sys.exit` does, without taking the interpreter down object by object.

    What torch and triton build at import holds half a million objects, whose last collection takes 3 to 5 s. Everything
    that a program may rely on runs first: threads that are no daemons, functions of `atexit`, both streams.
    """
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue] - what the interpreter itself calls here
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader of a pipe has gone
            code = code or 1
    os._exit(code)
