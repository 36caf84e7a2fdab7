"""Model cards and everything else that goes to the hub with a model."""
