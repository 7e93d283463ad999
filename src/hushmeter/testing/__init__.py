"""Test doubles; production may not import this."""
