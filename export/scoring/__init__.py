"""Scoring files of histories with a bundle, without torch."""
