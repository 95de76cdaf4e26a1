"""Helpers of the pages. They know Streamlit and the run folder; nothing here computes a statistic or loads torch."""
