"""What comes from the package index: backbones and demo data."""
