"""Files of a user, read in bounded memory: text, JSON, tables of numbers and zip archives."""
