"""Stand-ins for what the tests cannot afford to run for real; each is called a fake."""
