"""What is known of single gates and of whole blocks."""
