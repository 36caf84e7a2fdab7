"""The models.

The files here travel with every saved checkpoint, and import nothing of bertlite outside this
folder.
"""
