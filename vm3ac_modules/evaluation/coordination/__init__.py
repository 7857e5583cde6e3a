"""How coordinated a policy is: estimates, their measurement, tables and figures."""
