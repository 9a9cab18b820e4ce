"""Privacy: nothing that people and agents wrote to each other, and no secret, is in anything that is produced."""
