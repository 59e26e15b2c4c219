"""The norms of the weights, and where they go."""
