"""From a trained policy to a file per agent."""
