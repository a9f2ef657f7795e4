"""The streams of clients to kernels, and what goes on when a client leaves."""
