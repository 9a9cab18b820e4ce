"""How fast the product is, measured against limits and beside a peer: `python -m benchmarks`.

The process that measures imports neither the product nor its dependencies: everything measured runs in a process of
its own, whose CPU time, wall time and memory the operating system tells.
"""
