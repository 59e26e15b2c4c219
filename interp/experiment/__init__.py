"""What is run: the task, the model, the training, their hash, the presets. Light: numpy, no torch."""
