"""Images whose leaves are frequencies."""
