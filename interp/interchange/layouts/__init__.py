"""Other people's weight layouts: tables of names and shapes, how they are recognized, and the way from theirs to ours
and back."""
