"""`hushmeter audit`: what releases give away, shown from outside."""
