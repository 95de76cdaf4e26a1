"""The page Noise mixing."""
