"""Arrays in, arrays out: Fourier bases, circuits, losses, key frequencies, grokking. It knows no run and no network."""
