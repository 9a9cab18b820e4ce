"""The `kharcha` command.

What belongs here: arguments, what is printed and how, exit codes. What does not: any work on logs or tables, which
the other rooms do. `main` decides with the standard library alone whether there is anything to do; only then are the
commands loaded, and each loads what it needs when it runs.
"""
