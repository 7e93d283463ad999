"""Edge: the light client that applications embed."""
