"""The SLOs of a service: its spec, and the observability.yaml that says how each is measured."""
