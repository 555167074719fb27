"""A task whose loader is of any kind that people write (`"kind"`); its network writes down what it is trained on."""
