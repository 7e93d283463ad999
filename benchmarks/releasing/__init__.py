"""What the release benchmark needs: plans with tallies to release, a watch on OpenDP, and questions over a socket."""
