"""Stage 5: answers as linear maps of raw releases; pure."""
