"""The process that ends windows, and removes what must go."""
