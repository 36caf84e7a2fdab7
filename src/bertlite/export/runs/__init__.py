"""Files that are copied into exported folders as they are; nothing here is imported by bertlite."""
