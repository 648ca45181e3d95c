"""Models of tables that the test app has no models for."""
