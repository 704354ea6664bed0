"""File backends: where the files of a storage are."""
