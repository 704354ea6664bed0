"""The types of values that every engine and storage hands on exactly, as data: one module for each library."""
