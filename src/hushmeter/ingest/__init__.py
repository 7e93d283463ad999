"""Stage 1: reports are admitted or rejected with a reason; pure and columnar."""
