"""Words to be tagged, in the manner of the text example of the 2018 course template."""
