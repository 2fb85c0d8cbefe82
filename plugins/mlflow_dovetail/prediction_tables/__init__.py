"""Prediction tables: every example with its input, its label and what the model said, kept as it is logged."""
