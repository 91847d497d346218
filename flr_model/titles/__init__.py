"""The `title` decoder: tokens, prefix tree, beam search."""
