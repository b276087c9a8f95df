"""Simulated multi-distance LIBS spectra: materials, plasma, scene, instrument, generation."""
