"""Speed, memory and quality against other implementations.

`python -m benchmarks` lists what there is.
"""
