"""What both ends speak. Standard library only: this package travels to hosts with the agent."""
