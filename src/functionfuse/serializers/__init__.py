"""Serializers: store values of some types in sidecar files, in formats of their own."""

from functionfuse.serializers.base import FILE_PROTOCOL, FOLDER_PROTOCOL, S3_PROTOCOL, generate_name

__all__ = ["FILE_PROTOCOL", "FOLDER_PROTOCOL", "S3_PROTOCOL", "generate_name"]
