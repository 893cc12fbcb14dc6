"""What the estimators share: reading X and y, checks of parameters, the order of fit."""
