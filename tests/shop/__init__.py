"""The test app: one model for each way in which a model and its table are not simply alike."""
