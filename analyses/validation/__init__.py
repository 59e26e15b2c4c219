"""Whether what was learned holds on what was not trained on, and what that says of the training labels."""
