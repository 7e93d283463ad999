"""Stage 4: a Tally and its charge become Releases; noise comes in as a port."""
