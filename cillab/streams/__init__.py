"""Floor 1: where tasks come from. A Source holds images and labels, a Stream deals them out as Tasks.

Importing this package registers every kind of source; it downloads nothing and opens nothing.
"""

from cillab.streams import arrays, files, held, hub, named, table  # noqa: F401  (each registers what it can open)
