"""What programs that run notebooks, nbclient and papermill, do not do by themselves."""
