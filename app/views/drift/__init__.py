"""The page Drift and forgetting."""
