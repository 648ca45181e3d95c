"""The tests of django-pgnudge: a file for each module, real servers by the fixtures of
fix_servers.py.
"""
