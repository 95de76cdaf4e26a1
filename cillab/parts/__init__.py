"""Floor 2: the shared pieces of methods. A part does not know which method calls it."""
