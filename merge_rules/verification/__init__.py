"""What every rule must hold, and the means to see whether one does. Needs no Hypothesis."""
