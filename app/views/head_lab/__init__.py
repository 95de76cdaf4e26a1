"""The page Head lab."""
