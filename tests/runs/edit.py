"""Files of a run as somebody edits them by hand: without their checksum."""

import re


def unsealed(text: str) -> str:
    """The text of a JSON file without its checksum."""
    return re.sub(r',\s*"crc32": \d+(?=\s*\}\s*$)', "", text)
