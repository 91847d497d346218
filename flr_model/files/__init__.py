"""Reading users' files: encodings, delimiters, columns, cells, times."""
