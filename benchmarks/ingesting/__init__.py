"""What the ingest benchmark runs: servers, hushmeter's and a bare one, and clients that load them."""
