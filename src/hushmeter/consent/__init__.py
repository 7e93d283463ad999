"""Purposes and decisions: what a unit allows now; pure."""
