"""The network as one render runs it: fused, compiled, in the precision asked for."""
