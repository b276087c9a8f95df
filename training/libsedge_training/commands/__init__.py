"""One file per host command; `libsedge_training.cli` holds the table."""
