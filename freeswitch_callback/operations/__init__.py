"""What people ask for, whoever asks: the command line, the pages, the dialplan's hook."""
