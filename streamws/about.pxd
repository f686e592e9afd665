# Compiled, so that its own file name says which build this is.
