"""What people do in the directory, seen and told to the index."""
