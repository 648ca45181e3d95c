"""The others, and we beside them, each behind the same few words."""
