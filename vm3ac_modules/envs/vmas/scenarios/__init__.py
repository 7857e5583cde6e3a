"""The paper's scenarios for VMAS, each in its own module, which needs the extra ``vmas``."""
