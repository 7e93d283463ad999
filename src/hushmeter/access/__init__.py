"""Who may come in: roles, credentials, unit tokens and rate limits; pure, its clock and randomness come in as values."""
