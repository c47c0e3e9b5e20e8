"""Measures the backend `cuda` on one card."""
