"""The backend for NVIDIA GPUs: real tokens end to end, with torch alone."""
