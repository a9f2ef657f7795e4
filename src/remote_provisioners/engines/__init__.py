"""Systems that choose the machine themselves: one package an engine."""
