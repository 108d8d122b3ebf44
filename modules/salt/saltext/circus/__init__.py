"""
Salt's loader finds the modules in the packages below this one.
"""
