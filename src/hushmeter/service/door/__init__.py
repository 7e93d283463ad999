"""The gRPC door: who may call what, what messages say, and which status an error is."""
