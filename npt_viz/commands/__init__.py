"""The command line: every module here is one command, named after its file, with a function `run`.

Modules that begin with an underscore are shared by the commands. Torch is imported inside `run`, so that
`--help` and wrong usage answer at once.
"""
