"""Images whose leaves are pixels, at one resolution or at several, or a function of where a pixel is."""
