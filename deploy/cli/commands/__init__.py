"""One module for each command or group of commands, with the options that they share."""
