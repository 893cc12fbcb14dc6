"""Evaluation of a stack of draws on any number of rows."""
