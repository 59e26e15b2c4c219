"""Training over time: curves and transitions."""
