"""What may be lost at any moment without changing a decision."""
