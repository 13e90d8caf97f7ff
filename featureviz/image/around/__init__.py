"""Images made of other images: in grey, with transparency, in one region, or near a picture."""
