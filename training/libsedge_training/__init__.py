"""libsedge on the host: readers, simulation, training, evaluation, quantisation."""
