"""The topic registry as YAML: what a run found and proposes, and what people decided."""
