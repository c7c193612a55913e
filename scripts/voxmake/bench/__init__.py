"""Parts of `make bench`, by domain."""
