"""A database backend that serves tenants by schema, as django-tenants and its kin do."""
