"""The Django project of the consistency benchmark, used by every process of a run."""
