"""`kharcha serve`: an ASGI application that takes rows in, lets people sign in, and shows the usage page."""
