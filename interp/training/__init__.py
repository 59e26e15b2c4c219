"""Training: an experiment in, snapshots out. It touches no file."""
