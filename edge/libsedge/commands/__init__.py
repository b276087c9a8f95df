"""One file per board command; `libsedge.cli` holds the table."""
