"""Where Django's way to write numbers in a language is not the one that browsers have."""
