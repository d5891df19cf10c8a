"""Catching up with the network from peers' certified blocks. Pure."""
