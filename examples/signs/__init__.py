"""Hand signs, the example of CS230: which number from 0 to 5 does a hand show?"""
