"""Data that come with the package, or that it knows where to find."""
