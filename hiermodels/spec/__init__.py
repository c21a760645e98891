"""What was asked: formula, data, families and priors, resolved to arrays and numbers."""
