"""Edge: log files, key files and the database."""
