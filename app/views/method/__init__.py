"""The page Inside the method."""
