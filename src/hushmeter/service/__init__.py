"""Edge: gRPC, processes, configuration and schedule."""
