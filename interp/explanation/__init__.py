"""What the numbers say, in words: of one run, or of several side by side."""
