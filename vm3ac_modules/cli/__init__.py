"""The console program ``vm3ac``."""
