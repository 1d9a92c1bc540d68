"""What is asked and answered, told to machines (OpenAPI 3.1) and to people, without a request.

Owns the description of every route; the routes themselves do not know that they are described.
"""
