"""The Hub: what is published of a model and its data, with cards, a check and a Space."""
