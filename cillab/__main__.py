"""`python -m cillab` and `cillab` are the command line. Ctrl-C is one line from here on, also while this loads."""

import sys

from cillab.core.imports import uncollected
from cillab.core.leaving import leave, leaving_at_once


def main() -> None:
    """Load the command line, or of it only the lists where one is asked for, and run it."""
    with leaving_at_once(), uncollected():
        from cillab.answering import answer  # noqa: PLC0415 - under the handler

        if sys.argv[1:2] == ["list"]:
            from cillab.listing import alone as app  # noqa: PLC0415
        else:
            from cillab.cli import app  # noqa: PLC0415
    try:
        answer(app)
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 0)


if __name__ == "__main__":
    main()
