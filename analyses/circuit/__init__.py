"""The circuit that adds: what asks for the phases of a task."""
