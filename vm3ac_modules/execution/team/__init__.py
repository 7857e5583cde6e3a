"""A process per agent, and what may go wrong with them."""
