"""Pure functions: values and lazy frames in, values and lazy frames out; the clock and the seed are arguments."""
