"""Version of the library, which result files name."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
