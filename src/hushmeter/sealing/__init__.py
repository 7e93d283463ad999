"""Stage 2: one bucket of rows becomes a Tally; pure numpy, mergeable."""
