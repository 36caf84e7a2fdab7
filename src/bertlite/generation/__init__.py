"""Decoding with nothing wasted, for a frozen encoder-decoder on the CPU."""
