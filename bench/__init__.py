"""Measures Syncline against the speed of its own database: `python -m bench`."""
