"""The state store on a database."""
