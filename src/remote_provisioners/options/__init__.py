"""What can be set: options of the operator, requests of a user."""
