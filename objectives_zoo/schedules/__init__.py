"""Objectives whose weight depends on the step."""
