"""The page Text and transport."""
