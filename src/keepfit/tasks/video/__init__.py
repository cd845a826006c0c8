"""The video task: diffusion reconstruction errors, a CNN+LSTM over them, and 1 or 0 for every moment."""
