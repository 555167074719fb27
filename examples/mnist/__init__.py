"""MNIST: which digit was written by hand?"""
