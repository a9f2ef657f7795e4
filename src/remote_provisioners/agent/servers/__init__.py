"""The servers that are connected to this agent."""
