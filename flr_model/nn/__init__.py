"""The network: backbone, history encoders, reasoner, decoders, regularisers."""
