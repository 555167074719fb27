"""What each promise costs or saves, against what a user would write or pick instead."""
