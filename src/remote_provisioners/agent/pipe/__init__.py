"""The host's end of a pipe. The server sends it to an interpreter there, apart from the agent."""
