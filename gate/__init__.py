"""The service: domain types, policy, verdict, record, API, command line, reports and metrics.

Imports ``checks``; never ``workers``, to which it sends tasks by name.
"""
