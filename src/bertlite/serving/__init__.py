"""`bertlite serve`: models over HTTP, batches formed across requests.

A request is cut into rows of ids (`works`), waits with others (`batcher`), goes through its model
in passes of so many tokens, and comes back as the function of the same name in `bertlite.inference`
would have answered it.
"""
