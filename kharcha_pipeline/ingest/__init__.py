"""Rows of usage that other machines send: their contract, the inbox, who may send, and the client that sends."""
