"""Latents of dictionaries, such as sparse autoencoders, and the directions of probes."""
