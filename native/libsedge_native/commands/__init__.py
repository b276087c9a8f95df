"""Commands of the generator, joined to the command line by `libsedge_training.cli`."""
