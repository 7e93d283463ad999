"""The intake log: frames, runs and segments in files."""
