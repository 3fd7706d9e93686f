"""Django: database engines for PostgreSQL and MySQL that follow a credential.

DATABASES = {"default": {
"ENGINE": "rotator.client.django.postgresql",
"NAME": "shop", "HOST": "db.example.org",
"OPTIONS": {"credential": credential},
}}
"""
