"""The command line: parses, calls one part of the product, prints. Owns the terminal."""
