"""`libsedge study`: weighting strategies x seeds x grouped folds, with controls, baselines and intervals."""
