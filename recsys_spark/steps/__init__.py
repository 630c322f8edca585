"""One file per step: read named tables, call transformations, publish, report.

A job runs one step, ``refresh_lake`` runs them all; steps are here because jobs do not import each other.
"""
