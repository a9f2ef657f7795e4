"""What both ways by SSH share: the configuration, the words of a command, errors of logins."""
