"""File backends of storages: local folders, S3, file systems of fsspec, and memory."""
