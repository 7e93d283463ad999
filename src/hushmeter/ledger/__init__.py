"""Stage 3: what a window costs, and whether the period can pay; pure."""
