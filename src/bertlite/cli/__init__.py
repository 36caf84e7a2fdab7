"""The command `bertlite`: one module a sub-command, imported only when it is chosen."""
