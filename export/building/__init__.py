"""Making a bundle of a run: graphs, parity, quantisation, gates."""
