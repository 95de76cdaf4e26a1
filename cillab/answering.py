"""How a command ends: its answer, or one line that says what was wrong, and the exit code. Loads next to nothing."""

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from cillab.core.errors import CancelledError, CillabError, cut, nearest, one_line, printable

if TYPE_CHECKING:
    import typer

REFUSED, SIGNALLED = 2, 128  # exit codes: a request that cannot be carried out; plus the signal, as shells count it


def answer(app: "typer.Typer") -> NoReturn:
    """Run the command that the words of this process ask for: a refusal is one line on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False) or 0
        if code == SIGNALLED + signal.SIGINT:  # Typer keeps a Ctrl-C to itself and hands over its code alone
            raise KeyboardInterrupt
        sys.exit(code)
    except CancelledError as error:
        _end(one_line(error), SIGNALLED + error.signal)
    except CillabError as error:
        _end(one_line(error), REFUSED)
    except OSError as error:
        where = f" ({cut(str(error.filename), 200)})" if error.filename else ""
        _end(f"{error.strerror or one_line(error)}{where}", REFUSED)
    except KeyboardInterrupt:
        _end("Interrupted.", SIGNALLED + signal.SIGINT)
    except Exception as error:
        usage: Callable[[], str] | None = getattr(error, "format_message", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stdout.write(f"{usage() if usage else error}\n")
            sys.exit(REFUSED)
        if usage is not None:  # Typer's own complaints; their class has moved between its versions
            _end(_usage_line(error, usage()), REFUSED)
        if type(error).__name__ == "Abort":
            _end("Interrupted.", SIGNALLED + signal.SIGINT)
        raise


def _end(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"cillab: {printable(message)}\n")
    sys.exit(code)


def _usage_line(error: Exception, message: str) -> str:
    """Typer's complaint in one line, with the nearest name if it gave none itself."""
    line = " ".join(message.split())
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if "Did you mean" in line or "Possible options" in line or option is None or context is None:
        return line
    known = [flag for parameter in context.command.params for flag in parameter.opts]
    hint = nearest(option, known)
    return f"{line} Did you mean {hint!r}?" if hint else line
