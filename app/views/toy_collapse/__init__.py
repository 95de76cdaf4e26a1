"""The page Toy collapse."""
