"""What a VOSpace is made of: nodes, transfers, jobs, faults and URIs, without any input or output.

Standard library only: every other layer may import this one, and it imports none of them.
"""
