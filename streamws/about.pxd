# No C types: `about` is compiled so that its file tells the compiled build from the pure one.
