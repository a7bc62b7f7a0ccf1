"""The verbs: functions from tables to tables. The only place where arrays become tables."""
