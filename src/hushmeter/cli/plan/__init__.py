"""`hushmeter plan`: checks, compares, explains and applies telemetry plans."""
