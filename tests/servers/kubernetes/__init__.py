"""A strict stand-in of the Kubernetes API: objects, controllers, and a server in front of them."""
