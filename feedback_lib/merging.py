"""What people decided about duplicates, and what follows for the signals."""
