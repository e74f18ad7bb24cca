"""The verbs of the command line, as dataclasses; heavy imports wait until a verb runs."""
