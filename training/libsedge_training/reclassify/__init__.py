"""Archives of spectra re-classified with a bundle: shards in, Parquet out, every spectrum once."""
