"""What a network does with any image, learnt by running it on noise: its layers, their axes, what it mixes."""
