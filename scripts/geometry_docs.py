"""Write docs/geometry.md from the docstrings of the quantities: `python scripts/geometry_docs.py [--check]`."""

import argparse
import sys
from pathlib import Path

from cillab.glossary import markdown

PAGE = Path(__file__).parents[1] / "docs" / "geometry.md"


def main() -> None:
    """Write the page, or with --check only say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(markdown(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != markdown():
        sys.exit("docs/geometry.md is out of date: run `python scripts/geometry_docs.py`.")


if __name__ == "__main__":
    main()
