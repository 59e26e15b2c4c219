"""Controlled experiments: grids of runs that put a prediction to the test, each with its measurement, figure and verdicts."""
