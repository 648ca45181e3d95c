"""The Django project whose `runnudge` is measured: fifty tables, one rule each."""
