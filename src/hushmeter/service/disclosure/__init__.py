"""What people may read besides estimates: what is held on them, releases as they were charged, the public record."""
