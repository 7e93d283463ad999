"""Engines that seal one window with the same semantics, and the windows that they seal."""
