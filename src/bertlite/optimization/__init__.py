"""Frozen inference as fast as the processor allows: `optimize`, `undo_optimize`, `encode`."""
