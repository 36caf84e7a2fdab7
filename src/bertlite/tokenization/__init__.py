"""Tokenizers trained from texts of your own."""
