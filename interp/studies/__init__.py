"""Questions put to many runs: a design, a prediction, a verdict."""
