"""StarCraft-like battles: SMAX, embedded, and StarCraft II through SMAC."""
