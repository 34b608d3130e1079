"""The command line: a module for each command, which parses, asks and prints. No rules of the system live here."""
