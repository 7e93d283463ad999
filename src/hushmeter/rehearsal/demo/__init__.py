"""The demo: a year of real flights through the whole service, and the comparison with the truth."""
