"""Rows of data: checks, streams that are read on demand, and batches."""
