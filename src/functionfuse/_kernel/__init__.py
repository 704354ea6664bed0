"""Kernel: runs one node on any engine; the part of the library that workers import."""
