"""Values, exceptions and messages on their way between processes."""
