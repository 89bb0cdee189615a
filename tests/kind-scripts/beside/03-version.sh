# What tools look for in the version.
kind version | cut --delimiter=' ' --fields=1,2
kind version --quiet
kind version -q
kind --version
