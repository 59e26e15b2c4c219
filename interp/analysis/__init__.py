"""What an analysis is, finding them, running them over a run, and their results on disk."""
