"""Where the money is: PostgreSQL decides, nothing here announces."""
