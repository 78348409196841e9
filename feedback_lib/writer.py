"""Topic names worded by a language model, where one is configured."""
