"""The default task, classifying a folder of images. Replace both files with your own task's."""
