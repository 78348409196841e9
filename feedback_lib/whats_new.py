"""What is new this week: topics, documents, service measurements and evidence in one call."""
