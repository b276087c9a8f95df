"""The demo: the whole path on a small simulated set, each step a command that a person could type."""
