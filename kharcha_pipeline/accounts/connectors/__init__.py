"""The vendors: one module each, with how to sign in, what can be asked, and what the answers mean."""
