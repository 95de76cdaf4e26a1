"""`python -m cillab` is the command line."""

from cillab.cli import main

if __name__ == "__main__":
    main()
