"""The processes of a service: supervisor, children, or all in one."""
