"""Signs of an undeciphered script: how many there are, and which of them are the same."""
