"""Comparison of one graph's results on several backends."""

from functionfuse.comparison.comparison import compare
from functionfuse.comparison.result import Comparison, Difference

__all__ = ["Comparison", "Difference", "compare"]
