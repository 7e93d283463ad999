"""Nouns: frozen values, valid from birth, with no logic beyond validity."""
