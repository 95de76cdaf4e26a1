"""Probe images on a page: thumbnails, galleries, heat maps, answers that changed."""
