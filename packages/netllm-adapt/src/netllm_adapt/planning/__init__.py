"""What adapting and deciding take, in memory and time, before anything is loaded."""
