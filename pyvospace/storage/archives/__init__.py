"""Archives: a tree that leaves as one file, and a file that becomes a tree."""
