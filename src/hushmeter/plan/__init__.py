"""The telemetry plan: from YAML to a checked Plan, the catalog of series, the measurements that it makes."""
