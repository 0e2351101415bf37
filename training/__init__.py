"""Encoder training, fine-tuning, recipes, and the `xrec` command."""
