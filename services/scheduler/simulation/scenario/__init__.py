"""What is simulated: a toml file as frozen values."""
