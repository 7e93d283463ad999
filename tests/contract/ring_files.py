"""The master keys of the suites of the key ring in a directory."""

MASTER = bytes(range(32))
OTHER = bytes(range(32, 64))
