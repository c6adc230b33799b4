"""Measures Syncline against the speed of its own database: `syncline bench`."""
