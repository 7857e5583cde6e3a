"""Environments of PettingZoo, multi-walker among them."""
