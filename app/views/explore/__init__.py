"""The page Explore points."""
