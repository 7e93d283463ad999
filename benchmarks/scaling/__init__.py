"""What the scale benchmark runs: programs that fill a log with one window's rows, and seal it."""
