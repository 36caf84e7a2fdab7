"""The CPU backend: oneDNN products, dropout attention, packed weights, int8, fast decoding."""
