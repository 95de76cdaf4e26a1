"""The page Collapse."""
