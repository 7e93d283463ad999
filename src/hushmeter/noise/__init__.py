"""Edge: the only importer of OpenDP."""
