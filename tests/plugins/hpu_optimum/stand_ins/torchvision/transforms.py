"""No transform."""
