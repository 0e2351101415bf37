"""Recipes: a YAML file each."""
