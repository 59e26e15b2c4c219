"""A run on disk: its format, its reader, its writer, and the checkpoints in it."""
