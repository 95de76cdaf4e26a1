"""The page Grad-CAM."""
