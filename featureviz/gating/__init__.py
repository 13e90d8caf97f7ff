"""The squeeze-and-excitation gates of a network: discovery, verification and interventions."""
