"""Edge: the client that ML teams use."""
