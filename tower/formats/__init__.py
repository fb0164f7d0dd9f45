"""Where Django writes numbers or times of a language otherwise than our pages."""
