"""Nouns: frozen values, checked when they are made, with no logic beyond that check."""
