"""VMAS: the paper's scenarios and every stock one."""
