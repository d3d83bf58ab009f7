"""What is checked before the first job: the files, folders, commands and packages that a configuration names."""
