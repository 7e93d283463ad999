"""The public record: what a deployment collects, for what, and what it has cost (R1)."""
