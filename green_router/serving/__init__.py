"""The greenlets and the one socket."""
