"""Ways to run the core faster, each behind the seam of `models.encoder`.

The core knows none of them.
"""
