"""A weighting strategy's parameters, found by Optuna on the validation specimens."""
