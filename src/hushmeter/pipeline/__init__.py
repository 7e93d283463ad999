"""One window from rows to a published release: the spine that joins the stages."""
