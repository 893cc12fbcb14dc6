"""Predictive distributions: families that torch lacks, mixtures of draws, transformations."""
