"""What runs in processes of its own: parts of the product that are measured, and what prepares and checks them."""
