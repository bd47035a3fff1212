"""Networks with logits, features and maps."""
