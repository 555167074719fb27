"""Several labels for each example, scored by the area under the ROC curve of each label."""
