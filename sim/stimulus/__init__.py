"""Random models, programs and inputs."""
