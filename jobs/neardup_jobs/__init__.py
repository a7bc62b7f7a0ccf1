"""The runnable jobs and the command line."""
