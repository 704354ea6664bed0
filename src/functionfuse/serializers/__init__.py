"""Values that are kept beside their result file, each type in a format of its own."""

from functionfuse.serializers.base import FILE_PROTOCOL, FOLDER_PROTOCOL, S3_PROTOCOL, generate_name

__all__ = ["FILE_PROTOCOL", "FOLDER_PROTOCOL", "S3_PROTOCOL", "generate_name"]
