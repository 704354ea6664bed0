"""Comparison of one graph's results on several backends."""

from functionfuse.comparison.comparison import Comparison, Difference, compare

__all__ = ["Comparison", "Difference", "compare"]
