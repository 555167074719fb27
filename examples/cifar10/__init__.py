"""CIFAR-10: what is on a small photograph?"""
