"""The page: its files, and the libraries that it uses."""
