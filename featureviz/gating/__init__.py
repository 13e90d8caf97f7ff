"""The squeeze-and-excitation gates of a network: discovery in tiers, proof, interventions."""
