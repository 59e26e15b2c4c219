"""This computer: its files, its memory, its threads and processes."""
