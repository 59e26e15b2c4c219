"""Networks as named weights: shapes, forward passes, the closed-form gradient, the bridge to TransformerLens."""
