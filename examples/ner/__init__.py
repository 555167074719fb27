"""Names of people, places and organisations found in sentences, as CS230 taught it: tag each word."""
