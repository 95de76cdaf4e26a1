"""`python -m cillab` and `cillab` are the command line. Ctrl-C is one line from here on, also while this loads."""

from cillab.core.leaving import leaving_at_once


def main() -> None:
    """Load the command line and run it."""
    with leaving_at_once():
        from cillab import cli  # noqa: PLC0415 - under the handler
    cli.main()


if __name__ == "__main__":
    main()
