"""Transport between processes: values, exceptions and messages."""
