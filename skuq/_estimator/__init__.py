"""Shared by the estimators: reading X and y, checks of parameters, the order of fit."""
