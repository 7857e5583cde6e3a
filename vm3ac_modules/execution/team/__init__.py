"""A process per agent, and faults to study."""
