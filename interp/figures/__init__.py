"""The look of every figure, images of them, words for numbers, and what a notebook shows."""
